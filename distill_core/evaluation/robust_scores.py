"""DD-Ranking's scores as formulae: what a distilled set gives beyond labels and augmentation.

All accuracies are fractions from 0 to 1, all functions are pure; how accuracies are measured is
the business of `measure_scores.py`.

Source: DD-Ranking (Li et al. 2025). Its released code (0.2.0) puts percentages into the exponential
map and takes the best accuracy over learning rates and epochs on the test set; see
docs/guide/evaluate.md.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

WEIGHT = 0.5  # w of LRS and gamma of ARS


@dataclass(frozen=True)
class Score:
    """A score for each network, and their mean and spread.

    Attributes:
        values: one for each network.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the networks."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (ddof = 1); None for a single network."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {"mean": self.mean, "std": self.std, "values": list(self.values)}

    def __str__(self) -> str:
        spread = f" +- {self.std:.2f}" if self.std is not None else ""
        return f"{self.mean:.2f}{spread}"


def hard_label_recovery(real_hard: float, distilled_hard: float) -> float:
    """HLR: what is lost against all real images, both with hard labels; lower is better."""
    return real_hard - distilled_hard


def improvement_over_random(distilled: float, random: float) -> float:
    """IOR: what is gained over random real images of the same budget; higher is better."""
    return distilled - random


def scale(alpha: float) -> float:
    """Map -1 to 0 and 1 to 100: 100 (e^alpha - e^-1) / (e - e^-1)."""
    lowest = math.exp(-1)
    return 100 * (math.exp(alpha) - lowest) / (math.e - lowest)


def label_robust_score(ior: float, hlr: float, *, weight: float = WEIGHT) -> float:
    """LRS: `scale` of w IOR - (1 - w) HLR; 0 to 100.

    >>> label_robust_score(1.0, -1.0)
    100.0
    """
    return scale(weight * ior - (1 - weight) * hlr)


def augmentation_robust_score(augmented: float, plain: float, *, weight: float = WEIGHT) -> float:
    """ARS: `scale` of the improvements over random, trained with and without augmentation.

    Args:
        augmented: IOR where both are trained with augmentation.
        plain: IOR where neither is.
        weight: gamma.
    """
    return scale(weight * augmented + (1 - weight) * plain)
