"""A word where work takes long that usually does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distill_core.system.units import QUIET_SECONDS


@contextmanager
def told_if_slow(
    tell: Callable[[str], None], line: str, *, seconds: float = QUIET_SECONDS
) -> Iterator[None]:
    """Say what goes on, once, if it takes longer than some seconds.

    Args:
        tell: called with the line, from another thread.
        line: what goes on.
        seconds: without a word.
    """
    timer = threading.Timer(seconds, tell, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
