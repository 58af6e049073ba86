"""Command lines in processes of their own, in which something happens."""

from __future__ import annotations

import functools
import importlib
import os
import resource
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distill_core.cli import main
from tests.forks import Fork


@dataclass(frozen=True)
class Spot:
    """A call of a function, before or after which something happens."""

    module: str
    name: str
    call: int = 1
    when: str = "before"

    def patch(self, happen: Callable[[], None]) -> None:
        owner = importlib.import_module(self.module)
        *path, name = self.name.split(".")
        for part in path:
            owner = getattr(owner, part)
        inner, calls = getattr(owner, name), []

        @functools.wraps(inner)
        def patched(*args, **kwargs):
            calls.append(1)
            due = len(calls) == self.call
            if due and self.when == "before":
                happen()
            result = inner(*args, **kwargs)
            if due and self.when == "after":
                happen()
            return result

        setattr(owner, name, patched)


@dataclass(frozen=True)
class Signal:
    """A signal to the process itself."""

    number: int

    def __call__(self) -> None:
        os.kill(os.getpid(), self.number)


@dataclass(frozen=True)
class Limit:
    """A limit of the process, in bytes; `beyond`: besides the address space that it has now."""

    which: int
    size: int
    beyond: bool = False

    def __call__(self) -> None:
        size = self.size
        if self.beyond:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            size += pages * resource.getpagesize()
        resource.setrlimit(self.which, (size, size))


@dataclass(frozen=True)
class Ended:
    """How a child ended; a negative code is the number of a signal."""

    stdout: str
    stderr: str
    code: int | None


def child(
    args: list[str], folder: Path, happen: Callable[[], None], spot: Spot | None = None
) -> Ended:
    """Run a command line in a child, in which something happens at a spot, or at its start."""
    process = Fork(_be, args, happen, spot, folder=folder)
    try:
        return Ended(*process.communicate(240), process.returncode)
    except subprocess.TimeoutExpired:
        process.kill()
        return Ended(*process.communicate(), process.returncode)


def _be(args, happen, spot):
    if spot:
        spot.patch(happen)
    else:
        happen()
    main(args)
