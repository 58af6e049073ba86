"""Command lines in processes of their own, forked from a server that has imported everything once.

The server has a single thread and computes nothing, so its forks are as good as new processes and
start in a fraction of the time.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch.utils.tensorboard

import distill_core.commands.run  # noqa: F401
from distill_core.cli import main


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

    code: int | None
    stdout: str
    stderr: str


def child(
    args: list[str], folder: Path, happen: Callable[[], None], spot: Spot | None = None
) -> Ended:
    """Run a command line in a child, in which something happens at a spot, or at its start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    folder.mkdir(exist_ok=True)
    environment = {"DISTILL_CACHE": os.environ["DISTILL_CACHE"]}
    process = context.Process(target=_be, args=(args, folder, environment, happen, spot))
    process.start()
    process.join(240)
    if process.is_alive():
        process.kill()
        process.join()
    texts = ((folder / name).read_text() for name in ("stdout", "stderr"))
    return Ended(process.exitcode, *texts)


def _be(args, folder, environment, happen, spot):
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(environment)
    torch.set_num_threads(1)
    if spot:
        spot.patch(happen)
    else:
        happen()
    main(args)
