"""Turning pixel counts and stored rows into labels; the maths that labelers share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from distill_core.geometry import Boxes, Placement, class_coverage
from registry import InputError

LEAST_MASS = 1e-3  # bounds the derivative: plain division has 1/mass


class ItemTable:
    """Numbers that follow from a box alone: kept for items, worked out for all other boxes.

    Args:
        compute: gives the rows (n, d) for n boxes.
        items: the items of the layout.
    """

    def __init__(self, compute: Callable[[Boxes], Tensor], items: Boxes) -> None:
        self.rows = compute(items)
        self._compute = compute

    def at(self, boxes: Boxes) -> Tensor:
        """Return the rows of `boxes`: (n, d), on the CPU."""
        if bool((boxes.item >= 0).all()):
            return self.rows[boxes.item]
        return self._compute(boxes)


def check_items(boxes: Boxes, *, labeler: str) -> None:
    """Refuse boxes that are no items, for a labeler that keeps a row for each item.

    Raises:
        InputError: a box is none.
    """
    if bool((boxes.item < 0).any()):
        raise InputError(
            f"labeler '{labeler}' has a label for each training image, but this representation "
            "draws boxes that are none.",
            expected="boxes from the layout's list of items.",
            next="use another labeler, one that labels any box: `distill list labeler`.",
        )


def majority_labels(coverage: Tensor) -> Tensor:
    """Give each box to the class that covers most of it; classes that tie share it equally.

    Args:
        coverage: (n, K) pixels of each class, as from `class_coverage`; no row of zeros.

    Returns:
        (n, K) float64, rows sum to 1.

    Source: Shul et al. 2024 (arXiv:2403.12040), section 4.3, fixed labels.

    >>> import torch
    >>> majority_labels(torch.tensor([[3, 1, 3], [0, 2, 1]])).tolist()
    [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]
    """
    largest = (coverage == coverage.max(dim=1, keepdim=True).values).double()
    return largest / largest.sum(dim=1, keepdim=True)


def normalise_rows(mass: Tensor) -> Tensor:
    """Divide rows by their sums; what a row lacks of `LEAST_MASS` is spread over all classes.

    So a row of nothing becomes uniform, and its derivative is not infinite.

    Args:
        mass: (n, K), not negative; carries the gradient.

    Returns:
        (n, K), rows sum to 1.
    """
    total = mass.sum(dim=1, keepdim=True)
    lacking = (LEAST_MASS - total).clamp(min=0)
    return (mass + lacking / mass.shape[1]) / (total + lacking)


def item_coverage(placement: Placement, *, labeler: str) -> Tensor:
    """`class_coverage` of all training images, refused if it leaves one without any class.

    Raises:
        InputError: a training image touches no class cell.
    """
    coverage = class_coverage(placement.layout.items, placement)
    untouched = int((coverage.sum(1) == 0).sum())
    if untouched:
        raise InputError(
            f"labeler '{labeler}': {untouched} of {len(coverage)} training images touch no class.",
            expected="training images that each overlap the area of a class.",
            next="use more patches or another labeler.",
        )
    return coverage


def check_every_class(labels: Tensor, *, labeler: str, next: str) -> None:
    """Refuse fixed labels that leave a class without any training image.

    Args:
        labels: (n, K) of all training images.
        labeler: its name, for the message.
        next: what the user can do.

    Raises:
        InputError: a column is zero.
    """
    empty = (labels.sum(0) == 0).nonzero().flatten().tolist()
    if empty:
        shown = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
        raise InputError(
            f"labeler '{labeler}' gives no training image to {len(empty)} of {labels.shape[1]} "
            f"classes (number {shown}).",
            expected="for every class a training image that it covers more than any other class.",
            next=next,
        )
