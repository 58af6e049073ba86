"""The cells of a sweep as processes on this machine, a few at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from distill_core.commands.sweep import Cell
from distill_core.commands.sweep_cells import (
    INTERRUPTED,
    Told,
    command,
    environment,
    lock_log,
    log_path,
    open_log,
)
from distill_core.run.lock import owner_of
from distill_core.system.children import end_with_parent

Waits = Callable[[Cell, str], None]


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    *,
    parallel: int,
    ended: Told,
    waits: Waits = lambda cell, owner: None,
    make: Callable[[Cell, Path], list[str]] = command,
) -> None:
    """Run cells on this machine; those that others run now are waited for.

    Args:
        cells: the cells to run.
        out: the directory of the sweep.
        parallel: how many at a time.
        ended: called with each cell and its exit code; 0 if another sweep has finished it.
        waits: called once with each cell that others run, and who does.
        make: returns the command of a cell.

    Raises:
        KeyboardInterrupt: after Ctrl-C, SIGTERM or SIGHUP, when all processes have saved their
            state.
    """
    queue = _Queue(list(cells), partial(_start, out=out, parallel=parallel, make=make))
    asked = 0

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        del number, frame
        asked += 1
        queue.interrupt()

    old = {number: signal.signal(number, ask) for number in _ending()}
    try:
        while queue.running or (queue.waiting and not asked):
            while not asked and len(queue.running) < parallel and queue.start_next(ended, waits):
                pass
            time.sleep(0.1 if queue.running else 0.5)
            queue.collect(ended)
    finally:
        queue.interrupt()  # after an error: of `ended`, for example
        for process in queue.running.values():
            process.wait()
        for number, handler in old.items():
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt


@dataclass
class _Queue:
    """The cells that are to run, and those that this process runs.

    Attributes:
        waiting: in their order.
        start: starts a cell; see `_start`.
        running: processes, by the name of the cell.
        cells: the cells of these processes, and of those that have ended.
        told: names of those that were reported as run by others.
    """

    waiting: list[Cell]
    start: Callable[[Cell], subprocess.Popen[bytes] | str | None]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    def start_next(self, ended: Told, waits: Waits) -> bool:
        """Start the next cell that nobody else runs; return whether there was one."""
        for cell in self.waiting:
            found = self.start(cell)
            if not isinstance(found, str):
                self.waiting.remove(cell)
                if found is None:
                    ended(cell, 0)
                else:
                    self.running[cell.name], self.cells[cell.name] = found, cell
                return True
            if cell.name not in self.told:
                self.told.add(cell.name)
                waits(cell, found)
        return False

    def collect(self, ended: Told) -> None:
        """Tell which cells have ended."""
        for name, process in list(self.running.items()):
            if (code := process.poll()) is None:
                continue
            cell = self.cells[name]
            del self.running[name]
            if code not in (0, INTERRUPTED) and owner_of(cell.run_dir):
                self.waiting.append(cell)  # it was refused, since somebody runs it by hand
            else:
                ended(cell, code)

    def interrupt(self) -> None:
        """Let every running cell save its state and end."""
        for process in self.running.values():
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)


def _ending() -> list[signal.Signals]:
    """Return the signals that end a sweep; a closed terminal does not, if nohup says so."""
    hangs_up = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


def _start(
    cell: Cell, *, out: Path, parallel: int, make: Callable[[Cell, Path], list[str]]
) -> subprocess.Popen[bytes] | str | None:
    """Start a cell; return who runs it if somebody else does, and None if it is done."""
    with open_log(log_path(cell, out)) as file:
        if not lock_log(file.fileno()):
            return owner_of(cell.run_dir) or "another sweep"
        if cell.state() == "done":
            return None
        if owner := owner_of(cell.run_dir):
            return owner
        return subprocess.Popen(
            make(cell, out),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(cell, parallel),
            process_group=0,  # Ctrl-C reaches it only through this process, once
            # Safe, since this process has no other threads.
            preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGINT),  # noqa: PLW1509
        )
