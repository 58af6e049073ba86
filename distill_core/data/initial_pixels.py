"""Initial pixels for representations: noise of a known scale, and real images."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

if TYPE_CHECKING:
    from distill_core.contracts.data import RealData


def starting_noise(
    shape: Sequence[int], item_shape: tuple[int, int, int], *, generator: Generator
) -> Tensor:
    """Draw Gaussian pixels; a training image of shape `item_shape` (C, h, w) has about unit norm.

    The standard deviation is 1 / sqrt(C h w), 0.018 for 3x32x32. The scale matters: with Adam, a
    pixel moves about one learning rate per step.

    Source: the published RaT-BPTT and PoDD code, which divides Gaussian images by their norm.
    """
    return torch.randn(tuple(shape), generator=generator) / sqrt(prod(item_shape))


def draw_real(real: RealData, classes: Tensor, *, generator: Generator) -> Tensor:
    """Draw a random real training image for each entry of `classes`.

    Args:
        real: the real data.
        classes: (n,) class numbers.
        generator: the source of randomness.

    Returns:
        (n, C, h, w) whitened, on the CPU. No image repeats before all of its class are used.
    """
    labels = real.train.labels.cpu()
    chosen = torch.empty(len(classes), dtype=torch.int64)
    for label in torch.unique(classes).tolist():
        places = (classes == label).nonzero().flatten()
        members = (labels == label).nonzero().flatten()
        shuffled = members[torch.randperm(len(members), generator=generator)]
        chosen[places] = shuffled[torch.arange(len(places)) % len(shuffled)]
    return real.train.take(chosen.to(real.train.device)).cpu()
