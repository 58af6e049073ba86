"""The cells of a sweep: their commands and logs, and cells as jobs of a cluster.

A cell belongs to whoever has locked its log. Its process inherits the lock, so it is held until
that ends, even if the sweep that started it is killed; another sweep waits for the cell then, and
takes what it left.
"""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from distill_core.artefact.contents import CONFIG
from distill_core.commands.sweep import Cell, is_done
from distill_core.config.places import arguments_for, places_of
from distill_core.config.run_config import to_toml
from distill_core.config.settings import MACHINE
from distill_core.system.cores import count_cores
from distill_core.system.files import write_atomically
from distill_core.system.flock import flock
from distill_core.system.plain_files import open_plain, open_to_write
from registry import EnvironmentFault, InputError

LOG_LINES, LOG_BYTES = 4, 2**16  # of the end of a log, to show
INTERRUPTED = 130
Told = Callable[[Cell, int], None]


def command(cell: Cell, out: Path) -> list[str]:
    """Write the configuration of a cell, and return the command that runs or resumes it."""
    return start_or_resume(str(cell.run_dir), _write_config(cell, out), _machine(cell))


def start_or_resume(run_dir: str, config: str, machine: Sequence[str]) -> list[str]:
    """Return the command of a run that may have begun; nothing of it is ever deleted.

    Args:
        run_dir: its directory.
        config: the configuration file with which it begins.
        machine: options that it takes when it is resumed.
    """
    start = [sys.executable, "-m", "distill_core", "run", "--out", run_dir]
    if (Path(run_dir) / CONFIG).exists():
        return [*start, "--resume", *machine]
    return [*start, "--yes", "--config", config]  # who starts a grid means all of it


def _write_config(cell: Cell, out: Path) -> str:
    config = out / "configs" / f"{cell.name}.toml"
    write_atomically(config, to_toml(cell.config).encode())
    return str(config)


def _machine(cell: Cell) -> list[str]:
    """Return where a cell is computed, as options: the file may have changed that meanwhile."""
    given = cell.config.model_dump(mode="json", include=set(MACHINE), exclude_none=True)
    words = [word for name, value in given.items() for word in ("-o", f"run.{name}={value}")]
    return [*words, *arguments_for(places_of(cell.config))]


def log_path(cell: Cell, out: Path) -> Path:
    """Return where the output of a cell's process goes."""
    return out / "logs" / f"{cell.name}.log"


def log_end(cell: Cell, out: Path) -> list[str]:
    """Return the last lines of a cell's log; none if it cannot be read."""
    try:
        with open_plain(log_path(cell, out)) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            text = file.read(LOG_BYTES).decode(errors="replace")
    except (OSError, InputError):
        return []
    return [line for line in text.splitlines() if line.strip()][-LOG_LINES:]


def open_log(path: Path) -> BinaryIO:
    """Open a log to append to it, and to lock it; make it if it is missing.

    Raises:
        InputError: it is no plain file, or has a second name somewhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(open_to_write(path, append=True), "ab")


def environment(cell: Cell, parallel: int) -> dict[str, str]:
    """Return the environment of a cell's process, with its share of the cores."""
    share = max(1, count_cores() // (parallel * cell.config.procs))
    return {"OMP_NUM_THREADS": str(share), **os.environ}


def lock_log(descriptor: int, *, wait: bool = False) -> bool:
    """Lock a log for the processes that have it open; return whether nobody else had."""
    try:
        flock(descriptor, patience=math.inf if wait else 0.0)
    except OSError as error:
        if isinstance(error, EnvironmentFault):
            raise
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise EnvironmentFault(
                f"the log of a cell cannot be locked: {error.strerror or error}.",
                expected="a folder on a file system with locks (flock).",
                next="pass --out DIR for another place.",
            ) from error
        return False
    return True


def run_job(
    run_dir: str, config: str, machine: list[str], log: str, judges: Sequence[str] = ()
) -> None:
    """Run a cell in a job of a cluster, after other jobs of it; the job fails if the cell does."""
    with open_log(Path(log)) as file:
        lock_log(file.fileno(), wait=True)
        if is_done(Path(run_dir), judges):
            return
        arguments = start_or_resume(run_dir, config, machine)
        subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=True)


def submit_cells(
    cells: Sequence[Cell],
    out: Path,
    *,
    cluster: str,
    parallel: int | None,
    parameters: dict[str, Any],
    ended: Told,
) -> None:
    """Run cells as jobs, through submitit, and wait for them.

    submitit writes the task and the result of a job as pickles of its own; the job reads its task.
    distill reads neither: the result of a cell is in its run directory.

    Args:
        cells: the cells to run.
        out: the directory of the sweep, which all machines see.
        cluster: "slurm", or "local" to try the same path here.
        parallel: jobs at a time, where the cluster can limit them.
        parameters: of submitit, such as `timeout_min` and `slurm_partition`.
        ended: called with each cell, and 0 if it has results, else 1.

    Raises:
        EnvironmentFault: submitit is not installed, or refused.
    """
    try:
        import submitit
    except ImportError:
        raise EnvironmentFault(
            "--cluster needs the package submitit, which is not installed.",
            expected="the extra `sweep` of distill.",
            next="`pip install 'distill-podd[sweep]'`, or leave --cluster out.",
        ) from None
    limit = {"slurm_array_parallelism": parallel} if parallel else {}
    try:
        executor = submitit.AutoExecutor(folder=out / "cluster", cluster=cluster)
        executor.update_parameters(**parameters, **limit)
        with executor.batch():
            jobs = [
                (
                    cell,
                    executor.submit(
                        run_job,
                        str(cell.run_dir),
                        _write_config(cell, out),
                        _machine(cell),
                        str(log_path(cell, out)),
                        cell.judges,
                    ),
                )
                for cell in cells
            ]
    except (RuntimeError, NameError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".?!")
        raise EnvironmentFault(
            f"the jobs cannot be submitted: {reason}.",
            expected="a machine that can submit jobs, and parameters that its cluster knows.",
            next="check --partition and --time with your cluster's documentation.",
        ) from None
    while jobs:
        time.sleep(0.2 if cluster == "local" else 10.0)
        for cell, job in [pair for pair in jobs if pair[1].done()]:
            jobs.remove((cell, job))
            ended(cell, 0 if cell.state() == "done" else 1)  # job.result() would read a pickle
