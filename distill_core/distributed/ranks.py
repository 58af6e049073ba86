"""What the processes of a run do together; here for a single process, where it is trivial.

Code that gets a `Ranks` need not know how many there are; `group.Group` stands for several.
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
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return the numbers of this rank's tasks, of `count` equal ones."""
        return range(self.rank, count, self.size)

    def device(self, name: str) -> str:
        """Return this rank's device for the device that the user named."""
        return name

    def limit(self, minutes: float) -> None:
        """Limit the time that ranks wait for one that does not answer."""

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average `.grad` over ranks, in place; missing counts as zero, unless all miss it."""

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set on any rank."""
        return flags

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value (a tree, see `state_tree`) on rank 0, and nothing elsewhere."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value (a tree, see `state_tree`) on every rank."""
        return value

    def hand_over(self, error: BaseException) -> bool:
        """Leave an error for rank 0 to report; return whether rank 0 can."""
        del error
        return False

    def end(self, code: int) -> int:
        """Leave the group; return the exit code, which is rank 0's."""
        return code


SINGLE_PROCESS = Ranks()
