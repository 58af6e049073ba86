"""Signs of life, of processes that are played by objects in one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from torch.distributed import HashStore

from distill_core.distributed.heartbeat import Heartbeat, SilenceError

PATIENCE = 0.5


class Frozen(HashStore):
    """A store whose host has stopped: no call comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.thaw = threading.Event()

    def set(self, key: str, value: str) -> None:
        self.thaw.wait()
        super().set(key, value)


@pytest.fixture
def pair() -> Iterator[list[Heartbeat]]:
    store = HashStore()
    made = [Heartbeat(store, rank=rank, size=2, patience=PATIENCE) for rank in range(2)]
    yield made
    for each in made:
        each.leave()


def test_a_meeting_ends_when_all_have_come_however_late(pair: list[Heartbeat]) -> None:
    first, second = pair
    came: list[float] = []

    def come() -> None:
        first.meet()
        first.meet()
        came.append(time.monotonic())

    waiting = threading.Thread(target=come)
    waiting.start()
    second.meet()
    time.sleep(3 * PATIENCE)  # busy, but alive
    assert not came
    late = time.monotonic()
    second.meet()
    waiting.join(timeout=5)
    assert came
    assert came[0] >= late
    assert first.lives(1)
    assert first.answers()


def test_one_that_gives_no_sign_is_missed() -> None:
    begin = time.monotonic()
    alone = Heartbeat(HashStore(), rank=0, size=2, patience=PATIENCE)
    with pytest.raises(SilenceError, match=r"^rank 1 gave no sign of life for 0\.5 s$"):
        alone.meet()
    assert time.monotonic() - begin >= PATIENCE
    assert not alone.lives(1)
    alone.leave()


def test_one_that_has_left_is_not_waited_for(pair: list[Heartbeat]) -> None:
    first, second = pair
    second.leave()
    with pytest.raises(SilenceError, match="rank 1 has ended"):
        first.meet()
    assert first.lives(1)  # it said so, which the dead do not


def test_a_store_that_does_not_answer_is_not_waited_for() -> None:
    store = Frozen()
    cut_off = Heartbeat(store, rank=0, size=2, patience=PATIENCE)
    assert not cut_off.answers()
    with pytest.raises(SilenceError, match="the store, where the processes met"):
        cut_off.meet()
    store.thaw.set()
    cut_off.leave()
