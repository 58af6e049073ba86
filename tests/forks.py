"""Processes that are forked from a server which has imported everything once.

The server has a single thread and computes nothing, so its forks are as good as new processes and
start in a fraction of the time: importing PyTorch and its compiler takes seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch._dynamo  # PyTorch's optimizers import it when the first is made
import torch.utils.tensorboard

import distill_core.commands.run  # noqa: F401
from distill_core.cli import main

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__])


class Fork:
    """A call in a forked process, to be used as a `subprocess.Popen`.

    Args:
        call: a function of a module, or something else that can be pickled.
        args: its arguments.
        folder: takes what is printed, as `stdout` and `stderr`; made if need be.
        environment: variables besides those of this process.
    """

    def __init__(
        self,
        call: Callable[..., object],
        *args: Any,
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        self._folder = folder
        variables = {**os.environ, **(environment or {})}
        self._process = SERVER.Process(target=_be, args=(call, args, folder, variables))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, or None; a negative code is the number of a signal."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As `returncode`."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(9)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what was printed.

        Raises:
            subprocess.TimeoutExpired: it has not ended in so many seconds.
        """
        self._process.join(timeout)
        if timeout is not None and self.poll() is None:
            raise subprocess.TimeoutExpired(str(self._process.name), timeout)
        stdout, stderr = ((self._folder / name).read_text() for name in ("stdout", "stderr"))
        return stdout, stderr


def fork_distill(*args: str, folder: Path, **environment: str) -> Fork:
    """Fork a process that runs a command line."""
    return Fork(_distill, args, folder=folder, environment=environment)


def _distill(args: tuple[str, ...]) -> None:
    main(list(args))


def _be(
    call: Callable[..., object],
    args: tuple[Any, ...],
    folder: Path,
    environment: Mapping[str, str],
) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    call(*args)
