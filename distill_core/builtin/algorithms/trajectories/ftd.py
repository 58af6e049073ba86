"""FTD: trajectory matching with experts in flat regions, and an average of what it finds.

The student is MTT's, with the exact gradient. Experts are trained by adaptive sharpness-aware
minimisation, so that the errors that a network makes on its own way matter less; the moving average
is the engine's, and is judged by fresh networks, as everything is.
Source: Du et al. 2023 (arXiv:2211.11004) and its published code.
"""

from __future__ import annotations

from collections.abc import Mapping

from distill_core.builtin.algorithms.trajectories.mtt import Mtt
from distill_core.builtin.algorithms.trajectories.options import FtdOptions
from distill_core.plugin import Task


class Ftd(Mtt):
    """Matches flat trajectories as MTT, and asks for a moving average."""

    def __init__(self, options: FtdOptions, *, task: Task) -> None:
        super().__init__(options, task=task)
        spec = task.real.spec
        self._ema = options.average(spec.num_classes, min(spec.image_shape[1:]))

    def default_ema(self) -> float:
        """Return the published decay of the moving average."""
        return self._ema

    def notes(self) -> Mapping[str, str]:
        """Say which settings followed from the data."""
        decay = f"decay {self._ema:g} where run.ema says nothing; run.ema=0 for none"
        return {**super().notes(), "average": decay}
