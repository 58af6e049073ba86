"""Any representation and any labeler in a stored type, without code of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from distill_core.artefact.stored_numbers import StoredNumbers
from distill_core.contracts.components import Labeler, Representation
from distill_core.contracts.data import RealData
from distill_core.contracts.experts import Experts
from distill_core.contracts.geometry import Boxes, Placement
from distill_core.contracts.whitening import Whitening
from distill_core.layout.labels import normalise_rows


class StoredAs(StoredNumbers, Representation):
    """A representation whose images come from stored values; see `StoredNumbers`."""

    inner: Representation

    def __init__(self, inner: Representation, kind: str, scales: str = "channel") -> None:
        super().__init__(inner, kind, scales)
        self.layout = inner.layout

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Reset the representation, and fit scales to its start."""
        self.inner.reset(placement, real, generator=generator)
        self.fit()

    def use_whitening(self, whitening: Whitening) -> None:
        """Let the representation have the whitening."""
        self.inner.use_whitening(whitening)

    def expand(self, boxes: Boxes) -> Tensor:
        """Return the images at `boxes`, decoded from stored values."""
        with self.stored_values():
            return self.inner.expand(boxes)

    def canvases(self) -> Tensor:
        """Return every canvas, decoded from stored values."""
        with self.stored_values():
            return self.inner.canvases()

    def draw(self, index: Tensor, *, generator: Generator) -> Boxes:
        """Return the boxes that the representation draws."""
        return self.inner.draw(index, generator=generator)

    def penalty(self) -> Tensor | None:
        """Return the penalty of the trained numbers."""
        return self.inner.penalty()

    def project(self) -> None:
        """Project the trained numbers, and fit scales to them that are not learned."""
        self.inner.project()
        self.refit()


class StoredLabels(StoredNumbers, Labeler):
    """A labeler whose labels come from stored values; see `StoredNumbers`.

    Rows that are distributions are divided by their sums, which few bits change.
    """

    inner: Labeler

    def __init__(self, inner: Labeler, kind: str, scales: str = "channel") -> None:
        super().__init__(inner, kind, scales)
        self.simplex = inner.simplex  # type: ignore[misc]
        self.fit()

    def start(
        self, images: Tensor, *, real: RealData, experts: Experts, tell: Callable[[str], None]
    ) -> None:
        """Start the labeler, and fit scales to what it has learned."""
        self.inner.start(images, real=real, experts=experts, tell=tell)
        self.fit()

    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        """Return the labels (n, K), made of stored values."""
        with self.stored_values():
            rows = self.inner.labels(boxes, images)
        return as_distributions(rows) if self.simplex else rows

    def project(self) -> None:
        """Project the trained numbers, and fit scales to them that are not learned."""
        self.inner.project()
        self.refit()


def as_distributions(rows: Tensor) -> Tensor:
    """Divide rows (n, K) of stored values by their sums, after lifting those below 0 to it.

    Fitted levels go a rounding below 0 at most, learned ones further. What is lifted keeps its
    gradient, which a clamp would take from labels that are one-hot.
    """
    return normalise_rows(rows + rows.detach().neg().clamp(min=0))


def looks_at_images(labeler: Labeler) -> bool:
    """Say whether a labeler makes labels of the starting images."""
    own = labeler.inner if isinstance(labeler, StoredLabels) else labeler
    return type(own).start is not Labeler.start
