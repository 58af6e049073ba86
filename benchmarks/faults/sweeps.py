"""A sweep of which drivers and cells are killed, and others started while cells still run."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from types import SimpleNamespace
from typing import Any

import tomli_w
from children import Shared, be, ended, start
from reading import LostError, Seen, read_run_dir

from distill_core.commands import sweep_queue
from distill_core.commands.sweep_cells import lock_log
from distill_core.run.lock import owner_of
from distill_core.system.files import parse_json

SEEDS = (0, 1)
PATIENCE = 120  # seconds


class Forked:
    """Takes the place of `subprocess.Popen`: a cell is forked, and warm."""

    def __init__(
        self, arguments: list[str], *, stdout: Any, preexec_fn: Callable[[], None], **given: Any
    ) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        with contextlib.suppress(BaseException):
            os.setpgid(0, 0)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number in (1, 2):
                os.dup2(stdout.fileno(), number)
            preexec_fn()
            os._exit(be(arguments[3:]))
        os._exit(3)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode or 0


class Sweep:
    """A sweep in a folder, for one problem.

    Args:
        folder: everything is below it.
        settings: a run's, as a configuration file has them.
        shared: for the phases of the driver, which are not used.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], shared: Shared) -> None:
        self.folder, self.shared = folder, shared
        self.file = folder / "grid.toml"
        self.file.write_text(tomli_w.dumps({"base": settings, "seeds": list(SEEDS)}))
        self.cells = [folder / "out" / "runs" / f"seed={seed}" for seed in SEEDS]
        self.seen = dict.fromkeys(self.cells, Seen())
        self.finished: dict[Path, int] = {}  # the inodes of manifests

    def kills(self, count: int, draw: random.Random) -> Iterator[str]:
        """Kill drivers and cells, and let a last driver through; yield what was killed."""
        drivers = [self._driver()]
        for _ in range(count):
            time.sleep(draw.uniform(0.0, 1.5))
            what = draw.choice(("driver", "cell"))
            if killed := self._kill_driver(drivers) if what == "driver" else self._kill_cell(draw):
                yield killed
            self.read()
            drivers.append(self._driver())  # often while cells, or another driver, still run
        codes = [ended(pid) for pid in drivers]
        if not all(code == 0 for code in codes[-1:]):
            # A cell that was killed counts as failed; the same command goes on.
            codes.append(ended(self._driver()))
        self._wait_for_cells()
        self.read()
        if codes[-1] or not all(self.seen[cell].judged for cell in self.cells):
            raise LostError(f"the sweep ended with {codes}:\n{self._log()}")

    def _wait_for_cells(self) -> None:
        """Wait for cells of killed drivers, which are asked to end and may write a report still."""
        until = time.monotonic() + PATIENCE
        for log in (self.folder / "out" / "logs").iterdir():
            with log.open("ab") as file:
                while not lock_log(file.fileno()):
                    if time.monotonic() > until:
                        raise LostError(f"a cell outlives its driver:\n{self._log()}")
                    time.sleep(0.1)

    def read(self) -> None:
        """Read every cell; one that was finished must not have been made again."""
        for cell in self.cells:
            self.seen[cell] = read_run_dir(cell, self.seen[cell], self.folder / "read")
            if self.seen[cell].judged:
                inode = (cell / "manifest.json").stat().st_ino
                if self.finished.setdefault(cell, inode) != inode:
                    raise LostError(f"{cell} was finished and made again:\n{self._log()}")

    def _driver(self) -> int:
        fakes = SimpleNamespace(Popen=Forked, DEVNULL=DEVNULL, STDOUT=STDOUT)
        sweep_queue.subprocess = fakes  # type: ignore[attr-defined]
        try:
            arguments = ["sweep", str(self.file), "--out", str(self.folder / "out")]
            arguments += ["--parallel", "2"]
            cache, log = self.folder / "cache", self.folder / "sweep.txt"
            return start(arguments, cache, log, self.shared)
        finally:
            sweep_queue.subprocess = subprocess  # type: ignore[attr-defined]

    def _kill_driver(self, drivers: list[int]) -> str | None:
        pid = drivers.pop(0)
        if os.waitpid(pid, os.WNOHANG)[0]:
            return None
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "sweep driver"

    def _kill_cell(self, draw: random.Random) -> str | None:
        cell = draw.choice(self.cells)
        if not owner_of(cell):
            return None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            os.kill(int(parse_json((cell / ".lock").read_bytes())["process"]), signal.SIGKILL)
            return "sweep cell"
        return None

    def _log(self) -> str:
        logs = [self.folder / "sweep.txt", *(self.folder / "out" / "logs").glob("*")]
        return "\n".join(f"== {log}\n{log.read_text()[-2000:]}" for log in logs if log.exists())
