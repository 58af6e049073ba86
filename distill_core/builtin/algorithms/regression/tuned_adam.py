"""Adam on a convex problem, for a fixed number of steps, at a rate that tunes itself.

Source: published code of Loo et al. 2023 (RCIG): a little below the smallest of some rates at
which the value rises in some step; later a little down or up, by how often it did.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from distill_core.plugin import Adam, read

Problem = Callable[[Tensor], tuple[Tensor, Tensor]]

GROW, BACK, MOST_GROWTHS = 1.2, 0.7, 80
PERIOD, SLOWER, FASTER = 50, 0.9, 1.05
WORSE_SHARE, MONOTONE_SHARE = 0.29, 0.7


class Run(NamedTuple):
    """Where Adam came to, and the values on the way (of every point but the last)."""

    point: Tensor
    values: list[float]

    @property
    def monotone(self) -> bool:
        """Whether the value fell in every step."""
        return all(b < a for a, b in zip(self.values, self.values[1:], strict=False))

    @property
    def worse(self) -> bool:
        """Whether it ended above its start."""
        return not self.values[-1] <= self.values[0]


def minimise(problem: Problem, start: Tensor, *, rate: float, steps: int) -> Run:
    """Take Adam's steps from a point (P,); `problem` gives value (a scalar) and gradient.

    No step depends on a value, so the host waits for the device once, at the end.
    """
    optimizer = Adam(rate)
    point, state = start, optimizer.init(start)
    values: list[Tensor] = []
    for _ in range(steps):
        value, gradient = problem(point)
        values.append(value)
        point, state = optimizer.update(point, gradient, state, rate)
    values.append(problem(point)[0])
    return Run(point, read(*values))


class TunedAdam:
    """`minimise` with a rate that is found at the first problem and adapted later.

    Args:
        first: the rate from which it is looked for.
        steps: how many steps are taken.
    """

    def __init__(self, first: float, *, steps: int) -> None:
        self.rate = first
        self._steps = steps
        self._tuned = False
        self._runs = self._worse = self._monotone = 0

    def __call__(self, problem: Problem, start: Tensor) -> Tensor:
        """Return where the steps lead."""
        if not self._tuned:
            self.rate, self._tuned = self._found(problem, start), True
        run = minimise(problem, start, rate=self.rate, steps=self._steps)
        self._runs += 1
        self._worse += run.worse
        self._monotone += run.monotone
        if self._runs == PERIOD:
            self._adapt()
        return run.point

    def state_dict(self) -> dict[str, Any]:
        """Return the rate, and what was seen since it last changed."""
        return {
            "rate": self.rate,
            "tuned": self._tuned,
            "counts": [self._runs, self._worse, self._monotone],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.rate, self._tuned = state["rate"], state["tuned"]
        self._runs, self._worse, self._monotone = state["counts"]

    def _found(self, problem: Problem, start: Tensor) -> float:
        def ascends(growths: int) -> bool:
            rate = self.rate * GROW**growths
            return not minimise(problem, start, rate=rate, steps=self._steps).monotone

        # Taken to be so from some rate on, so that seven searches tell what the published code
        # finds one by one, in thirty or more.
        return self.rate * GROW ** bisect_left(range(MOST_GROWTHS), True, key=ascends) * BACK

    def _adapt(self) -> None:
        if self._worse >= WORSE_SHARE * PERIOD:
            self.rate *= SLOWER
        elif self._monotone >= MONOTONE_SHARE * PERIOD:
            self.rate *= FASTER
        self._runs = self._worse = self._monotone = 0
