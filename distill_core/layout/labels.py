"""What labelers and algorithms share: labels from coverage, checks, and coverage of pixels.

Coverage counts pixels of each class in a box (`item_coverage`), or items that touch a pixel
(`normalize_by_coverage`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from distill_core.contracts.geometry import Boxes, Placement, class_coverage
from distill_core.contracts.transfer import read
from registry import InputError

LEAST_MASS = 1e-3  # bounds the derivative, which is 1/mass in a plain division
MOST_COVERAGE = 2**20  # numbers of a table of coverage, 8 bytes each
NOTHING = 1e-6  # of the largest coverage: less is rounding


class ItemTable:
    """Numbers that depend on a box alone: stored for items, computed for other boxes.

    Args:
        compute: returns rows (n, d) for n boxes.
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
    """Refuse boxes that are not items, for a labeler that keeps a row for each item.

    Raises:
        InputError: a box is not an item.
    """
    if bool((boxes.item < 0).any()):
        raise InputError(
            f"labeler '{labeler}' has a label for each training image, but this representation "
            "draws boxes that are not training images.",
            expected="boxes from the layout's list of items.",
            next="use another labeler, one that labels any box: `distill list labeler`.",
        )


def majority_labels(coverage: Tensor) -> Tensor:
    """Label each box by the class that covers most of it; tied classes share it equally.

    Args:
        coverage: (n, K) pixels of each class, from `class_coverage`; no row is all zeros.

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
    """Divide rows by their sums, after raising small sums to `LEAST_MASS` evenly over the classes.

    So a row of zeros becomes uniform, and its derivative stays finite.

    Args:
        mass: (n, K), not negative; carries the gradient.

    Returns:
        (n, K), rows sum to 1.
    """
    total = mass.sum(dim=1, keepdim=True)
    lacking = (LEAST_MASS - total).clamp(min=0)
    return (mass + lacking / mass.shape[1]) / (total + lacking)


def item_coverage(placement: Placement, *, labeler: str) -> Tensor:
    """Return `class_coverage` of all training images; refuse one that touches no class.

    Raises:
        InputError: a training image touches no class cell.
    """
    coverage = class_coverage(placement.layout.items, placement)
    _check_touched(coverage.sum(1), labeler)
    return coverage


def check_touched(placement: Placement, *, labeler: str) -> None:
    """Refuse a training image that touches no class, as `item_coverage`, without its table.

    Raises:
        InputError: a training image touches no class cell.
    """
    items = placement.layout.items
    _check_touched(rows_by_coverage(items, placement, lambda coverage: coverage.sum(1)), labeler)


def rows_by_coverage(
    boxes: Boxes, placement: Placement, rows: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return rows that follow from the class coverage of each box, with no table of it for all.

    Args:
        boxes: n boxes.
        placement: where the classes are.
        rows: returns (m, ...) of the coverage of m boxes, (m, K) int64.

    Returns:
        (n, ...).
    """
    size = max(1, MOST_COVERAGE // placement.num_classes)
    starts = range(0, max(1, len(boxes)), size)
    parts = (boxes[start : start + size] for start in starts)
    return torch.cat([rows(class_coverage(part, placement)) for part in parts])


def _check_touched(pixels: Tensor, labeler: str) -> None:
    """`pixels` (n,): of all classes together, in each training image."""
    untouched = int((pixels == 0).sum())
    if untouched:
        raise InputError(
            f"labeler '{labeler}': {untouched} of {len(pixels)} training images touch no class.",
            expected="training images that each overlap the area of a class.",
            next="use more patches or another labeler.",
        )


def check_every_class(labels: Tensor, *, labeler: str, next: str) -> None:
    """Refuse fixed labels that leave a class without any training image.

    Args:
        labels: (n, K) of all training images.
        labeler: its name, for the message.
        next: what the user can do about it.

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


@torch.no_grad()
def normalize_by_coverage(parameters: Sequence[nn.Parameter], coverage: Sequence[Tensor]) -> bool:
    """Divide `.grad` by the coverage relative to its mean, in place.

    If all coverage is equal, nothing changes, to the last bit. The mean is over all numbers, so the
    learning rate keeps its meaning on average.

    Args:
        parameters: those of group "data".
        coverage: how many items touch each number, from `SyntheticDataset.coverage`.

    Returns:
        Whether it was done. It is not done if a number has a gradient but a coverage of zero: then
        the parameters are not pixels, and their coverage means nothing.
    """
    if not coverage:
        return False
    # Of a transform, coverage is zero up to rounding.
    least = NOTHING * max(read(*(each.max() for each in coverage)))
    touched = [each > least for each in coverage]
    outside = [
        ((parameter.grad != 0) & ~where).any()
        for parameter, where in zip(parameters, touched, strict=True)
        if parameter.grad is not None
    ]
    found = read(*(each.sum() for each in coverage), *outside)
    if any(found[len(coverage) :]):
        return False
    mean = sum(found[: len(coverage)]) / sum(each.numel() for each in coverage)
    for parameter, each, where in zip(parameters, coverage, touched, strict=True):
        if parameter.grad is not None:
            parameter.grad.div_(torch.where(where, each / mean, 1))
    return True
