"""Undoing that pixels which few items touch get small gradients.

On a poster a corner pixel is in one patch and an inner pixel in many, so the gradient of a mean
over patches is smaller at the border. Adam does not mind; outer SGD would leave the border behind.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from distill_core.transfer import read


@torch.no_grad()
def normalize_by_coverage(parameters: Sequence[nn.Parameter], coverage: Sequence[Tensor]) -> bool:
    """Divide `.grad` by the coverage relative to its mean, in place.

    Changes nothing, to the last bit, where all coverage is equal. The mean is that over all
    numbers, so the learning rate keeps its meaning on average.

    Args:
        parameters: those of group "data".
        coverage: how many items touch each number, from `SyntheticDataset.coverage`.

    Returns:
        Whether it was done. It is not where a number has a gradient that by its coverage no item
        touches: the parameters are then no pixels, and their coverage says nothing.
    """
    if not coverage:
        return False
    touched = [each > 0 for each in coverage]
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
