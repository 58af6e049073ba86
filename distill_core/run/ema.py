"""A moving average of the synthetic dataset over the outer steps, whatever the algorithm.

Outer steps are noisy; their average often trains better networks than the last of them. The
average is what is validated, saved and judged; the parameters that are trained never see it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from distill_core.contracts.synthetic import SyntheticDataset


class MovingAverage:
    """An exponential moving average of everything that a synthetic dataset stores.

    It starts at the dataset's state. An update replaces every floating-point parameter and
    buffer a by d a + (1 - d) x, where x is the dataset's value and d = `decay_at(...)`; other
    values are copied. The result is projected, so that labels stay valid.

    Args:
        synthetic: the dataset that is trained; it is copied.
        ema: largest decay, at least 0 and below 1. 0 keeps the newest state.

    Attributes:
        synthetic: the average, a dataset like the one that is trained.
    """

    def __init__(self, synthetic: SyntheticDataset, ema: float) -> None:
        self.ema = ema
        self.synthetic = copy.deepcopy(synthetic).requires_grad_(False)

    @torch.no_grad()
    def update(self, synthetic: SyntheticDataset, *, step: int) -> None:
        """Include the state after an outer step, counted from 0."""
        weight = 1 - decay_at(step, self.ema)
        newest = synthetic.state_dict()
        for name, value in self.synthetic.state_dict().items():
            if value.is_floating_point():
                value.lerp_(newest[name], weight)  # exact where both are equal
            else:
                value.copy_(newest[name])
        self.synthetic.project()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average."""
        return dict(self.synthetic.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.synthetic.load_state_dict(state)


def decay_at(step: int, ema: float) -> float:
    """Return the decay of the update after an outer step, counted from 0.

    It rises to `ema`, so that the starting values, which nothing has trained, are soon forgotten.

    >>> [decay_at(step, 0.9) for step in (0, 10, 1000)]
    [0.1, 0.55, 0.9]
    """
    return min(ema, (1 + step) / (10 + step))
