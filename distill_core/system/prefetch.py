"""Work done one step ahead: the next is made by a thread while the last is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Each = TypeVar("Each")
Made = TypeVar("Made")


def prefetched(make: Callable[[Each], Made], each: Iterable[Each], *, name: str) -> Iterator[Made]:
    """Yield `make(one)` for each, in order; the next is made meanwhile, in one thread.

    Each is read from the iterable in the caller's thread. While one result is used there is the
    next, and no further one.

    Args:
        make: called in the thread.
        each: what it is called with.
        name: of the thread.

    >>> list(prefetched(abs, [-1, 2, -3], name="numbers"))
    [1, 2, 3]
    """
    with ThreadPoolExecutor(1, name) as thread:
        waiting: Future[Made] | None = None
        for one in each:
            following = thread.submit(make, one)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
