"""Heartbeats of the processes of a run, through the store where they met.

A process that is stopped, or whose machine hangs, does not close its connections: others that wait
for it in a collective call would wait forever. So a thread of every process increments a number in
the store and reads those of the others. Before processes wait for work of unknown length, they
meet here: a meeting ends when all have arrived, or when one is silent. A process that works for
hours is not silent; one that has stopped is.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from torch.distributed.distributed_c10d import Store

_PAUSE = 5.0  # most seconds between beats while no process waits
_HURRY = 0.05  # and while one waits
_ANSWER = 2.0  # seconds within which a working store answers


class SilenceError(RuntimeError):
    """A process has left, or has been silent for too long."""


class _Sign(NamedTuple):
    """The entry of a process in the store.

    Attributes:
        beats: changes while the process lives.
        meetings: how many meetings it has joined.
        left: 1 if it will join no more.
    """

    beats: int = 0
    meetings: int = 0
    left: int = 0


class Heartbeat:
    """The heartbeats of this process and of the others; starts at once.

    Args:
        store: where all processes of the run read and write.
        rank: number of this process.
        size: how many there are.
        patience: seconds of silence after which a process counts as lost.

    Attributes:
        patience: as given; may be changed.
    """

    def __init__(self, store: Store, *, rank: int, size: int, patience: float) -> None:
        self._store, self._rank, self.patience = store, rank, patience
        self._meetings, self._left = 0, False
        self._others = {other: _Sign() for other in range(size) if other != rank}
        self._silence = dict.fromkeys(self._others, 0.0)
        self._heard = time.monotonic()
        self._rounds = 0  # how often the store has answered
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def meet(self) -> None:
        """Wait until all processes have called this as often as this one.

        Raises:
            SilenceError: one of them has left or is silent, or the store does not answer.
        """
        with self._changed:
            self._meetings += 1
            self._changed.notify_all()
            unanswered, rounds, seen = 0.0, self._rounds, time.monotonic()
            while self._expected():
                self._refuse_silence(unanswered)
                self._changed.wait(self._pause)
                now = time.monotonic()
                unanswered += self._passed(seen, now)
                if self._rounds != rounds:
                    unanswered = 0.0
                rounds, seen = self._rounds, now

    def answers(self) -> bool:
        """Return whether the store answers within seconds."""
        with self._changed:
            self._changed.notify_all()
            rounds = self._rounds
            return self._changed.wait_for(lambda: self._rounds > rounds, timeout=_ANSWER)

    def lives(self, rank: int) -> bool:
        """Return whether another process gave a recent sign, or has left properly."""
        with self._changed:
            return self._silence[rank] <= self.patience / 2 or bool(self._others[rank].left)

    def leave(self) -> None:
        """Tell the others that this process joins no more meetings, and stop the heartbeat."""
        with self._changed:
            self._left = True
            self._changed.notify_all()
        self._thread.join(timeout=_ANSWER)

    @property
    def _pause(self) -> float:
        """Seconds between beats while no process waits."""
        return min(_PAUSE, self.patience / 10)

    def _expected(self) -> list[int]:
        """The processes that have not yet joined this one's last meeting."""
        return [rank for rank, sign in self._others.items() if sign.meetings < self._meetings]

    def _refuse_silence(self, unanswered: float) -> None:
        for rank in self._expected():
            if self._others[rank].left:
                raise SilenceError(f"rank {rank} has ended")
            if self._silence[rank] > self.patience:
                raise SilenceError(f"rank {rank} gave no sign of life for {self.patience:g} s")
        if unanswered > self.patience or not self._thread.is_alive():
            raise SilenceError("the store, where the processes met, does not answer")

    def _passed(self, before: float, now: float) -> float:
        """Seconds between two reads; limited, since a process that was stopped in between must not
        take its own absence for that of the others."""
        return min(now - before, 2 * self._pause)

    def _beat(self) -> None:
        """Write a sign and read those of the others, until this process leaves."""
        beats, left = 0, False
        while not left:
            with self._changed:
                beats, left = beats + 1, self._left
                sign = _Sign(beats, self._meetings, int(left))
            try:
                self._store.set(f"sign/{self._rank}", " ".join(map(str, sign)))
                signs = {rank: self._read(rank) for rank in self._others}
            except RuntimeError:  # its host has ended
                return
            with self._changed:
                self._hear(signs)
                self._changed.notify_all()
                if not left:
                    self._changed.wait(_HURRY if self._expected() else self._pause)

    def _read(self, rank: int) -> _Sign:
        key = f"sign/{rank}"
        if not self._store.check([key]):
            return _Sign()
        return _Sign(*map(int, self._store.get(key).decode().split()))

    def _hear(self, signs: dict[int, _Sign]) -> None:
        now = time.monotonic()
        for rank, sign in signs.items():
            same = sign == self._others[rank]
            self._silence[rank] = same * (self._silence[rank] + self._passed(self._heard, now))
        self._others, self._heard = signs, now
        self._rounds += 1
