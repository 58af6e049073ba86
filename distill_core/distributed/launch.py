"""Several processes of one run on this machine, started by torch's own launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill_core.config.resume_command import resume_command
from distill_core.system.cores import count_cores
from registry import EnvironmentFault, OptionError

# Names the file for the exit code of rank 0; set if `launch` started the process.
EXIT_CODE_FILE = "DISTILL_EXIT_CODE_FILE"
# The process that started this one as one of several; they end when it is killed.
LAUNCHER = "DISTILL_LAUNCHER"
# Seconds after which torch's launcher kills a process that it asked to end; a step may take long.
_SHUTDOWN = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
_HANDLED = "TORCHELASTIC_SIGNALS_TO_HANDLE"


def launched(environment: Mapping[str, str]) -> bool:
    """Return whether a launcher started this process as one of several."""
    return environment.get("WORLD_SIZE", "1") not in ("", "0", "1")


def usable(procs: int, device: str) -> int:
    """Return the number of processes of a configuration, or 1 if this machine does not suit it.

    A preset is written for one kind of machine. With fewer cores, or with a GPU, a single process
    is better. What the command line asks for is not changed.
    """
    if procs == 1 or count_cores() < procs or device not in ("auto", "cpu"):
        return 1
    from distill_core.system.devices import has_cuda

    return 1 if device == "auto" and has_cuda() else procs


def check_processes(procs: int, device: str) -> None:
    """Refuse more processes than devices.

    Raises:
        OptionError: there are fewer CUDA devices than processes, or a single one was named.
    """
    import torch

    from distill_core.system.devices import has_cuda

    if device.startswith("cuda:"):
        raise OptionError(
            f"device '{device}' cannot be shared by {procs} processes.",
            expected="auto, cpu or cuda; each process takes a CUDA device of its own.",
            next="pass --device cuda, and choose devices with CUDA_VISIBLE_DEVICES.",
        )
    count = torch.cuda.device_count() if has_cuda() else 0
    if count and device in ("auto", "cuda") and procs > count:
        raise OptionError(
            f"--procs {procs} needs {procs} CUDA devices, and {count} can be seen.",
            expected=f"at most {count}, since each process takes a CUDA device of its own.",
            next=f"pass --procs {count}, or --device cpu.",
        )


def launch(arguments: Sequence[str], procs: int, *, run_dir: Path, patience: float) -> int:
    """Run `distill ARGUMENTS` in several processes, and wait for them.

    Args:
        arguments: the command line, without the program's name.
        procs: how many processes.
        run_dir: the directory of the run.
        patience: seconds to finish an outer step when they are asked to stop.

    Returns:
        The exit code of rank 0, which has printed the result or the error.

    Raises:
        EnvironmentFault: rank 0 was killed before it could print anything.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in tuple(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.distributed.launcher")):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    ended = ""
    with tempfile.TemporaryDirectory(prefix="distill-") as folder:
        exit_code = Path(folder) / "exit_code"
        os.environ[EXIT_CODE_FILE] = str(exit_code)
        os.environ[LAUNCHER] = str(os.getpid())
        os.environ.setdefault("OMP_NUM_THREADS", str(threads_of_each(procs)))
        os.environ.setdefault(_SHUTDOWN, str(int(patience)))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=procs,
            run_id="distill",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        _take_signals()
        try:
            elastic_launch(config, sys.executable)("-m", "distill_core", *arguments)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            ended = f"process {rank} of {procs} ended with {_ending(failure.exitcode)}"
        except SignalException as error:
            ended = f"the processes were ended by {error.sigval.name}"
        if exit_code.exists():
            return int(exit_code.read_text())
    raise EnvironmentFault(
        f"{ended or 'the first process ended'} before the run was complete.",
        expected="all processes of the run to stay until it is complete.",
        next=f"`{resume_command(run_dir)}` goes on from the last "
        "checkpoint, if there is one; a process that was killed may have needed more memory than "
        "there is.",
    )


def _take_signals() -> None:
    """Forward the signals from which torch's launcher would die, and keep what `nohup` ignores."""
    for name in ("SIGUSR1", "SIGUSR2", "SIGXCPU"):
        if hasattr(signal, name):
            number = getattr(signal, name)
            signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        os.environ.setdefault(_HANDLED, "SIGTERM,SIGINT,SIGQUIT")


def leave_exit_code(code: int) -> None:
    """Write the exit code of rank 0 for the process that started this one."""
    if path := os.environ.get(EXIT_CODE_FILE):
        Path(path).write_text(str(code))


def threads_of_each(procs: int) -> int:
    """Return the threads of each of several processes: its share of the physical cores."""
    return max(1, count_cores() // procs)


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
