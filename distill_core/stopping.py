"""Signals: the first ends a run after its outer step, a second Ctrl-C ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from distill_core.distributed import RankLostError


class Stop:
    """Becomes true at the first signal.

    Args:
        quiet: say nothing about it.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.asked = False
        self.quiet = quiet

    def __call__(self) -> bool:
        """Return whether a signal has come."""
        return self.asked

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal.

        Raises:
            KeyboardInterrupt: it is Ctrl-C, and not the first signal.
        """
        del frame
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not (self.asked or self.quiet):
            Console(stderr=True).print("ending after this outer step; Ctrl-C again ends at once")
        self.asked = True


@contextmanager
def stop_flag(*, quiet: bool = False) -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a flag for a while."""
    stop = Stop(quiet=quiet)
    old = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except RankLostError:
        # The launcher asks all processes to end when one has died. This one is about to, and
        # has to say first where the state is.
        old[signal.SIGTERM] = signal.SIG_IGN
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
