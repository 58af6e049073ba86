"""Work done one step ahead: its order, how far ahead, and what ends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from distill_core.system.prefetch import prefetched


def test_the_next_is_made_while_one_is_used_and_no_further_one() -> None:
    begun = [threading.Event() for _ in range(4)]

    def make(k: int) -> int:
        begun[k].set()
        return 10 * k

    used = prefetched(make, range(4), name="test")
    assert next(used) == 0
    assert begun[1].wait(10)
    assert not begun[2].wait(0.05)
    assert list(used) == [10, 20, 30]
    assert list(prefetched(make, [], name="test")) == []


def test_the_iterable_is_read_by_the_caller_and_the_rest_by_a_thread_of_that_name() -> None:
    def read() -> Iterator[str]:
        for _ in range(2):
            yield threading.current_thread().name

    made = prefetched(lambda who: (who, threading.current_thread().name), read(), name="test")
    assert list(made) == [(threading.current_thread().name, "test_0")] * 2


def test_an_error_arrives_in_its_turn_and_the_thread_ends_with_the_caller() -> None:
    used = prefetched(lambda k: 1 // k, [1, 0], name="test")
    assert next(used) == 1
    with pytest.raises(ZeroDivisionError):
        next(used)
    left = prefetched(abs, range(9), name="test")
    next(left)
    left.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("test_")]
