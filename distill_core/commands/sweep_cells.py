"""The cells of a sweep as processes: a few at a time here, or as jobs of a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill_core.artefact.contents import CONFIG
from distill_core.commands.sweep import Cell
from distill_core.config.places import arguments_for, places_of
from distill_core.config.run_config import to_toml
from distill_core.system.cores import count_cores
from distill_core.system.files import write_atomically
from registry import EnvironmentFault

LOG_LINES = 4
INTERRUPTED = 130
Told = Callable[[Cell, int], None]


def command(cell: Cell, out: Path) -> list[str]:
    """Write the configuration of a cell, and return the command that runs or resumes it."""
    start = [sys.executable, "-m", "distill_core", "run", "--out", str(cell.run_dir)]
    if cell.state() == "interrupted":
        return [*start, "--resume", *arguments_for(places_of(cell.config))]
    config = out / "configs" / f"{cell.name}.toml"
    write_atomically(config, to_toml(cell.config).encode())
    # Begun, but ended before the first checkpoint: nothing is lost.
    again = ["--overwrite"] if (cell.run_dir / CONFIG).exists() else []
    return [*start, "--config", str(config), *again]


def log_path(cell: Cell, out: Path) -> Path:
    """Return where the output of a cell's process goes."""
    return out / "logs" / f"{cell.name}.log"


def log_end(cell: Cell, out: Path) -> list[str]:
    """Return the last lines of a cell's log."""
    try:
        text = log_path(cell, out).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-LOG_LINES:]


def environment(cell: Cell, parallel: int) -> dict[str, str]:
    """Return the environment of a cell's process, with its share of the cores."""
    share = max(1, count_cores() // (parallel * cell.config.procs))
    return {"OMP_NUM_THREADS": str(share), **os.environ}


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    *,
    parallel: int,
    ended: Told,
    make: Callable[[Cell, Path], list[str]] = command,
) -> None:
    """Run cells on this machine.

    Args:
        cells: the cells to run.
        out: the directory of the sweep.
        parallel: how many at a time.
        ended: called with each cell and its exit code.
        make: returns the command of a cell.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when all processes have saved their state.
    """
    waiting, running = list(cells), dict[str, tuple[Cell, subprocess.Popen[bytes]]]()
    asked = 0

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        del number, frame
        asked += 1
        for _, process in running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while running or (waiting and not asked):
            while waiting and len(running) < parallel and not asked:
                cell = waiting.pop(0)
                running[cell.name] = (cell, _start(cell, out, parallel, make))
            time.sleep(0.1)
            for cell, process in list(running.values()):
                if process.poll() is not None:
                    del running[cell.name]
                    ended(cell, process.returncode)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt


def _start(
    cell: Cell, out: Path, parallel: int, make: Callable[[Cell, Path], list[str]]
) -> subprocess.Popen[bytes]:
    log = log_path(cell, out)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        return subprocess.Popen(
            make(cell, out),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(cell, parallel),
            process_group=0,  # Ctrl-C reaches it only through this process, once
        )


def run_job(arguments: list[str], log: str) -> None:
    """Run a cell in a job of a cluster; the job fails if the cell does."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
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
                (cell, executor.submit(run_job, command(cell, out), str(log_path(cell, out))))
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
            ended(cell, 0 if cell.results() else 1)  # job.result() would read a pickle
