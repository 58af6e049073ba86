"""Accuracy by class and balanced accuracy, for test sets whose classes differ in size."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

UNBALANCED = 1.5  # times as many images in the largest class as in the smallest


@dataclass(frozen=True)
class ByClass:
    """The accuracy on every class, the mean over networks.

    Attributes:
        names: of the K classes.
        images: how many images of each were measured.
        accuracies: of each, 0 to 1; None for a class without images.
    """

    names: tuple[str, ...]
    images: tuple[int, ...]
    accuracies: tuple[float | None, ...]

    @staticmethod
    def of(names: Sequence[str], labels: Tensor, right: Sequence[Sequence[int]]) -> ByClass:
        """Count what networks got right.

        Args:
            names: of the K classes.
            labels: (N,) int64 of the images.
            right: for each network, how many of each class it got right.
        """
        counts = labels.cpu().bincount(minlength=len(names)).tolist()
        return ByClass(
            tuple(names),
            tuple(counts),
            tuple(
                statistics.fmean(hits) / count if count else None
                for count, hits in zip(counts, zip(*right, strict=True), strict=True)
            ),
        )

    @property
    def balanced(self) -> float:
        """Mean accuracy over the classes that have images, each with the same weight.

        Source: Brodersen et al., The balanced accuracy and its posterior distribution, 2010.
        """
        return statistics.fmean(each for each in self.accuracies if each is not None)

    @property
    def is_unbalanced(self) -> bool:
        """Whether plain accuracy is mostly that of some classes."""
        return max(self.images) >= UNBALANCED * min(self.images)

    def as_list(self) -> list[dict[str, Any]]:
        """Return plain values for JSON, a table for each class, in label order."""
        rows = zip(self.names, self.images, self.accuracies, strict=True)
        return [{"class": n, "images": i, "accuracy": a} for n, i, a in rows]

    @staticmethod
    def from_list(rows: Sequence[dict[str, Any]]) -> ByClass:
        """Read what `as_list` returned."""
        columns = ([row[name] for row in rows] for name in ("class", "images", "accuracy"))
        names, images, accuracies = map(tuple, columns)
        return ByClass(names, images, accuracies)
