"""A word now and then where work takes long that usually does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic

from distill_core.system.units import QUIET_SECONDS, duration


@contextmanager
def told_if_slow(
    tell: Callable[[str], None], line: str, *, seconds: float = QUIET_SECONDS
) -> Iterator[None]:
    """Say what goes on if it takes long, and again each time that it has taken twice as long.

    Args:
        tell: called with the line and the time so far, from another thread.
        line: what goes on.
        seconds: before the first word.
    """
    over = Event()

    def wait() -> None:
        begin, next_word = monotonic(), seconds
        while not over.wait(begin + next_word - monotonic()):
            tell(f"{line} ({duration(monotonic() - begin)} so far)")
            next_word *= 2

    waiting = Thread(target=wait, daemon=True)
    waiting.start()
    try:
        yield
    finally:
        over.set()
        waiting.join()
