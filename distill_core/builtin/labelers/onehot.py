"""Labeler `onehot`: every training image belongs to one class, which never changes."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot

from distill_core.plugin import (
    Boxes,
    ItemTable,
    Labeler,
    Options,
    Placement,
    check_every_class,
    check_touched,
    rows_by_coverage,
    to_device,
)


class Onehot(Labeler):
    """Gives a box to the class that covers most of it; among equals to the lowest number.

    Args:
        options: none.
        placement: where the classes are.

    Raises:
        InputError: a training image touches no class, or a class gets no training image.
    """

    def __init__(self, options: Options, *, placement: Placement) -> None:
        super().__init__()
        del options
        self.placement = placement
        check_touched(placement, labeler="onehot")
        self._table = ItemTable(self._one_hot, placement.layout.items)
        check_every_class(
            self._table.rows,
            labeler="onehot",
            next="use more patches, or a labeler that learns (soft, poddl).",
        )

    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        """Return one-hot labels (n, K)."""
        return to_device(self._table.at(boxes).to(images.dtype), images.device)

    def _one_hot(self, boxes: Boxes) -> Tensor:
        return rows_by_coverage(
            boxes,
            self.placement,
            # Of equal maxima, argmax returns the first. As bool: an eighth of the bytes.
            lambda coverage: one_hot(coverage.argmax(1), coverage.shape[1]).bool(),
        )
