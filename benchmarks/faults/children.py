"""Command lines in children that are forked from a warm parent, and killed."""

from __future__ import annotations

import functools
import mmap
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from distill_core.cli import main
from distill_core.commands import run as run_command
from distill_core.commands import run_end
from distill_core.run import loop as run
from distill_core.run import recording
from distill_core.training import expert_cache as experts_store

PHASES = (
    "start",
    "experts",
    "step",
    "checkpoint",
    "artefact",
    "validation",
    "evaluation",
    "report",
)
# Functions that are a phase while they run.
SPOTS = (
    (experts_store.Experts, "prepare", "experts"),
    (run.OuterLoop, "_outer_step", "step"),
    (run, "save_checkpoint", "checkpoint"),
    (run_command, "save_result", "artefact"),
    (run_command, "validation_accuracies", "validation"),
    (run_end, "judge", "evaluation"),
    (recording.RunLog, "results", "report"),
    (run_end, "report_of", "report"),
)
# What Python tells an audit hook before it changes a file system.
CHANGES = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Shared:
    """Memory that a child and its parent share: in which phase it is, how often it wrote."""

    memory: mmap.mmap

    @staticmethod
    def new() -> Shared:
        return Shared(mmap.mmap(-1, 8))

    @property
    def phase(self) -> int:
        return self.memory[0]

    @phase.setter
    def phase(self, number: int) -> None:
        self.memory[0] = number

    @property
    def changes(self) -> int:
        return int.from_bytes(self.memory[4:8], "little")

    @changes.setter
    def changes(self, count: int) -> None:
        self.memory[4:8] = count.to_bytes(4, "little")


def start(arguments: list[str], cache: Path, log: Path, shared: Shared, *, kill_at: int = 0) -> int:
    """Fork a child that runs a command line; return its process id.

    Args:
        arguments: of `distill`.
        cache: its cache.
        log: what it prints is added to this file.
        shared: what it tells the parent.
        kill_at: it is killed right before it changes the disk for this time; 0: never.
    """
    shared.phase, shared.changes = 0, 0
    if pid := os.fork():
        return pid
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["DISTILL_CACHE"] = str(cache)
        _mark(shared)
        _count_changes(shared, kill_at)
        os._exit(be(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(3)  # a child never goes on as its parent


def be(arguments: list[str]) -> int:
    """Run a command line in this process; return its exit code."""
    try:
        main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 1


def ended(pid: int) -> int:
    """Wait for a child; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _count_changes(shared: Shared, kill_at: int) -> None:
    def hook(event: str, given: tuple[object, ...]) -> None:
        if event == "open":
            flags = given[2]
            if not isinstance(flags, int) or not flags & WRITES or given[0] == os.devnull:
                return
        elif event not in CHANGES:
            return
        count = shared.changes + 1
        shared.changes = count
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _mark(shared: Shared) -> None:
    """Make the program say in which phase it is; for a process that ends soon."""
    for owner, name, label in SPOTS:
        setattr(owner, name, _marked(getattr(owner, name), PHASES.index(label), shared))


def _marked(function, number: int, shared: Shared):  # type: ignore[no-untyped-def]
    @functools.wraps(function)
    def call(*args, **kwargs):  # type: ignore[no-untyped-def]
        before, shared.phase = shared.phase, number
        try:
            return function(*args, **kwargs)
        finally:
            shared.phase = before

    return call


def kill_in(pid: int, target: int, pause: float, skip: int, shared: Shared) -> str | None:
    """Kill a child some time after it has come to a phase; None if it ended before.

    Args:
        pid: the child.
        target: the phase, a number.
        pause: seconds after it came there.
        skip: how often it may come there before.
        shared: where the child says in which phase it is.
    """
    last = -1
    while not os.waitpid(pid, os.WNOHANG)[0]:
        now = shared.phase
        if now == target and now != last:
            skip -= 1
            if skip < 0:
                time.sleep(pause)
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return None
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return PHASES[shared.phase]
        last = now
        time.sleep(0.0001)
    return None


class Changes:
    """Draws at which change of the disk a command is killed; learns how many it makes."""

    def __init__(self) -> None:
        self.most: dict[str, int] = {}

    def kill(
        self, name: str, arguments: list[str], place: Path, shared: Shared, draw: random.Random
    ) -> bool:
        """Run a command until it is killed at a change; return whether it was."""
        kill_at = draw.randint(1, self.most.get(name, 30))
        pid = start(arguments, place / "cache", place / "log.txt", shared, kill_at=kill_at)
        killed = ended(pid) == -signal.SIGKILL
        if not killed:
            self.most[name] = max(shared.changes, 1)
        return killed
