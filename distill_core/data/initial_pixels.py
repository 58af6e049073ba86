"""Initial pixels for representations: noise of a known scale, real images, and fits to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod, sqrt
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

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


@torch.enable_grad()
def fit_images(
    module: nn.Module,
    goal: Tensor,
    *,
    lr: float,
    steps: int,
    render: Callable[[], Tensor],
    project: Callable[[], None],
) -> None:
    """Fit all parameters of a module to images: mean squared error, Adam.

    Args:
        module: what is fitted.
        goal: (n, C, h, w).
        lr: of Adam.
        steps: of Adam.
        render: the images that the module makes: (n, C, h, w), differentiable.
        project: called after every step.
    """
    goal = goal.to(next(module.parameters()))
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        # Summed over the images: each is fitted as if it were alone.
        loss = (render() - goal).square().flatten(1).mean(1).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        project()
    optimizer.zero_grad(set_to_none=True)
