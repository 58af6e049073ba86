"""What the processes of one run do together, as one process alone does it: trivially.

Code that is given a `Ranks` need not know how many there are; `distributed.Group` is many.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from registry import EnvironmentFault


class RankLostError(EnvironmentFault):
    """Another process of the run ended or does not answer."""


class Ranks:
    """A run of one process.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank = 0
    size = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of `count` equal tasks are this rank's."""
        return range(self.rank, count, self.size)

    def device(self, name: str) -> str:
        """Return this rank's device for the device that the user named."""
        return name

    def limit(self, minutes: float) -> None:
        """Bound the time that ranks wait for one that does not answer."""

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average `.grad` over ranks, in place; an absent one is zero, unless absent on all."""

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set on any rank."""
        return flags

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value (a tree, see `trees`) on rank 0, and nothing elsewhere."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value (a tree, see `trees`) on every rank."""
        return value

    def hand_over(self, error: BaseException) -> bool:
        """Leave an error for rank 0 to tell; return whether there is a rank 0 that can."""
        del error
        return False

    def end(self, code: int) -> int:
        """Take leave of the other ranks; return the exit code, which is rank 0's."""
        return code


SINGLE_PROCESS = Ranks()
