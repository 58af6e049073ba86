"""Divergence: numbers that are not finite, and going back (`run.on_divergence = halve-lr`).

Two earlier states are kept in memory and in the checkpoint. Only the count of outer steps decides
when one is taken, so a run that goes back is as repeatable as one that does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from distill_core.contracts.algorithm import DivergenceError
from distill_core.system.state_tree import copied

EVERY = 20  # outer steps between kept states


LIMIT = 8  # times that the rates are halved, to 1/256 of the configured ones


SMALLER = (
    "start again with smaller learning rates (-o algo.pixel_lr, -o algo.label_lr), or look at the "
    "last good state: `distill evaluate` reads the run directory."
)


def check_loss(metrics: Mapping[str, float], *, step: int) -> None:
    """Refuse an outer loss that is not finite, though its hypergradient may be.

    Raises:
        DivergenceError: naming the step.
    """
    loss = float(metrics.get("loss", 0.0))
    if not math.isfinite(loss):
        raise DivergenceError(
            f"the loss of outer step {step + 1} is {loss}.",
            expected="a finite number; the update was not made.",
            next=SMALLER,
        )


class EarlierStates:
    """The last two of the states that were taken every `EVERY` outer steps.

    A run goes back to the older one: the trouble may have begun before the newer one.
    """

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def take(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Keep the state before a step, if one is due."""
        if not self.states or step - self.states[-1]["step"] >= EVERY:
            self.states = [*self.states[-1:], copied(state())]

    def back(self) -> dict[str, Any]:
        """Return a copy of the older state, and forget the newer one."""
        self.states = self.states[:1]
        state: dict[str, Any] = copied(self.states[0])
        return state


def record(step: int, back_to: int, what: str, times: int) -> dict[str, Any]:
    """Return the manifest's record of going back once."""
    return {"outer_step": step, "what": what, "back_to": back_to, "rates_times": 0.5**times}
