"""The screen: nothing that is printed there can end a command.

What a terminal, a pipe or a file refuses is lost, and the command goes on: a reader that has left
(`| head`), a full disk, a terminal that was closed. What an encoding lacks is written as an escape.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from registry import EnvironmentFault

if TYPE_CHECKING:
    from rich.console import Console

STANDARD = (0, 1, 2)  # input, output, errors
PATIENCE = 1.0  # seconds for a terminal that another program has made non-blocking


class Patient(io.BufferedIOBase):
    """Bytes for a stream: all are taken, and lost from the first error on.

    Args:
        stream: where they go; None: it was closed before the process began.

    Attributes:
        lost: why it takes no more; None: all is well.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.lost: Exception | None = None

    def write(self, data: Any) -> int:
        """Write all, or lose it."""
        if self.lost is None:
            try:
                self._write(memoryview(data).cast("B"))
            except (OSError, ValueError) as error:
                self.lost = error
                _screen.refused(self, error)
        return len(data)

    def _write(self, data: memoryview) -> None:
        if self.stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        while len(data):
            count = self.stream.write(data)
            if count is None and not select.select([], [self.stream], [], PATIENCE)[1]:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            data = data[count or 0 :]
        self.stream.flush()

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return not (self.stream is None or self.lost) and bool(self.stream.isatty())

    def fileno(self) -> int:
        """Return the number of the stream's file, if it has one."""
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return int(self.stream.fileno())


@dataclass
class Screen:
    """What became of the output of a command.

    Attributes:
        out: where `sys.stdout` goes, if it is known.
        results: where records for other programs go.
        elsewhere: where the results are, besides the screen; empty: nowhere.
    """

    out: Patient | None = None
    results: TextIO | None = None
    elsewhere: str = ""

    def refused(self, stream: Patient, error: Exception) -> None:
        """Say once that output is lost, where a command goes on for long."""
        if stream is self.out and self.elsewhere:
            _say(f"nothing more can be shown: {_reason(error)}; {self.elsewhere}")

    def check(self) -> None:
        """Refuse to call output complete that is not.

        A reader that has left wants no more, and results that are kept elsewhere are not lost.

        Raises:
            EnvironmentFault: some of it could not be written.
        """
        lost = self.out.lost if self.out else None
        if lost and not self.elsewhere and getattr(lost, "errno", None) != errno.EPIPE:
            raise EnvironmentFault(
                f"the output is not complete: {_reason(lost)}.",
                expected="a terminal, a pipe or a file that takes all of it, with room.",
                next="fix that and try again.",
            )


_screen = Screen()


@contextmanager
def screen(*, records: bool = False) -> Iterator[Screen]:
    """Let everything that is printed inside this context go through streams that never fail.

    Args:
        records: standard output is for what `results` returns alone; anything else that is printed
            there, by a plugin or a library or a program that they start, goes to standard error.
    """
    global _screen  # noqa: PLW0603 -- as sys.stdout is
    before, old = _screen, (sys.stdout, sys.stderr)
    _open_standard()
    sys.stdout, sys.stderr = patient(sys.stdout), patient(sys.stderr)
    _screen = Screen(getattr(sys.stdout, "buffer", None), sys.stdout)
    put_back = _apart() if records else lambda: None
    try:
        yield _screen
    finally:
        put_back()
        sys.stdout, sys.stderr = old
        _screen = before


def patient(stream: TextIO | None) -> TextIO:
    """Return a stream to the same place that never fails; one without bytes below is kept."""
    buffer = getattr(stream, "buffer", None)
    if stream is not None:
        if buffer is None or isinstance(buffer, Patient):
            return stream
        with suppress(OSError, ValueError):
            stream.flush()
    return io.TextIOWrapper(
        Patient(getattr(buffer, "raw", buffer)),  # type: ignore[type-var]
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        write_through=True,
    )


def plain_console(*, stderr: bool = False, quiet: bool = False, soft_wrap: bool = True) -> Console:
    """Return a console that never fails and prints text as it is, without markup."""
    from rich.console import Console

    return Console(
        file=patient(sys.stderr if stderr else sys.stdout),
        stderr=stderr,
        quiet=quiet,
        highlight=False,
        soft_wrap=soft_wrap,
        markup=False,
        emoji=False,
    )


def results() -> TextIO:
    """Return where records for other programs go: standard output, and nothing else goes there."""
    return _screen.results or sys.stdout


def unseen_results(where: str) -> None:
    """State that the command goes on without a screen, and where its results are then."""
    _screen.elsewhere = where


def _apart() -> Callable[[], None]:
    """Let standard output and standard error be one, except for `results`."""
    old, sys.stdout = sys.stdout, sys.stderr
    try:
        numbers = old.fileno(), sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        return lambda: None
    if numbers != STANDARD[1:] or not isinstance(old.buffer, Patient):
        return lambda: None
    mine = io.FileIO(os.dup(1), "w")
    os.dup2(2, 1)
    old.buffer.stream = mine

    def put_back() -> None:
        os.dup2(mine.fileno(), 1)
        mine.close()

    return put_back


def _open_standard() -> None:
    """Open the standard files that were closed.

    Otherwise the next file that is opened, perhaps a checkpoint, gets the number of one of them,
    and with it whatever a library prints.
    """
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _say(line: str) -> None:
    with suppress(Exception):
        print(line, file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
