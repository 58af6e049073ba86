"""Labeler `soft`: a learned soft label for every training image."""

from __future__ import annotations

from torch import Tensor, nn

from distill_core.plugin import (
    Boxes,
    Labeler,
    Options,
    Placement,
    check_items,
    check_touched,
    majority_labels,
    normalise_rows,
    rows_by_coverage,
    to_device,
)


class Soft(Labeler):
    """One row of K numbers for each item, divided by its sum.

    Rows start as the class that covers most of the item, shared equally among classes that tie:
    one-hot on images. Numbers below 0 are clipped after an update.

    Args:
        options: none.
        placement: where items and classes are.

    Raises:
        InputError: a training image touches no class.

    Source: Sucholutsky and Schonlau 2019 (arXiv:1910.02551), as used in RaT-BPTT.
    """

    def __init__(self, options: Options, *, placement: Placement) -> None:
        super().__init__()
        del options
        check_touched(placement, labeler="soft")
        start = rows_by_coverage(
            placement.layout.items,
            placement,
            lambda coverage: majority_labels(coverage).float(),
        )
        self.rows = nn.Parameter(start)

    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        """Return the soft labels (n, K) of items.

        Raises:
            InputError: a box is not an item, so it has no row.
        """
        check_items(boxes, labeler="soft")
        return normalise_rows(self.rows[to_device(boxes.item, self.rows.device)].to(images))

    def project(self) -> None:
        """Clip at 0."""
        self.rows.data.clamp_(min=0)
