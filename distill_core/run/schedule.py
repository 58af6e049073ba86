"""How the outer learning rates fall over a run."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch.optim import Optimizer

Decay = Literal["none", "linear", "cosine"]


class RateSchedule:
    """Scales the learning rates of an optimizer by the progress of a run.

    Args:
        optimizer: has its starting rates now; None if nothing is learned.
        decay: "none"; "linear" or "cosine", which end at zero.

    Attributes:
        scale: multiplies all rates; lowered when a run has diverged.
    """

    def __init__(self, optimizer: Optimizer | None, decay: Decay) -> None:
        self.optimizer, self.decay = optimizer, decay
        self.scale = 1.0
        self._rates = [float(group["lr"]) for group in self._groups()]

    def apply(self, progress: float) -> None:
        """Set the rates for the next update.

        Args:
            progress: the finished part of the run, 0 to 1.
        """
        share = factor(self.decay, progress) * self.scale
        for group, rate in zip(self._groups(), self._rates, strict=True):
            group["lr"] = rate * share

    def _groups(self) -> list[dict[str, Any]]:
        """Read each time: an optimizer that loads a state makes new groups."""
        return self.optimizer.param_groups if self.optimizer else []


def factor(decay: Decay, progress: float) -> float:
    """Return the factor of the rates.

    >>> [factor("linear", done) for done in (0, 0.25, 1, 2)]
    [1.0, 0.75, 0.0, 0.0]
    >>> round(factor("cosine", 0.5), 6), factor("none", 0.9)
    (0.5, 1.0)
    """
    done = min(max(progress, 0.0), 1.0)
    if decay == "linear":
        return 1.0 - done
    if decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1.0
