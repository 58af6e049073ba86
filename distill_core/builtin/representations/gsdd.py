"""Representation `gsdd`: every image is a sum of a few coloured Gaussians.

A Gaussian has a place, a shape, a colour and an opacity: nine numbers with three channels.

Source: GSDD, Jiang et al. 2025 (arXiv:2509.26219).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from distill_core.builtin.representations.decoded import Decoded, as_many, uniform
from distill_core.builtin.representations.images import image_layout
from distill_core.builtin.representations.options import GsddOptions
from distill_core.plugin import (
    GAUSSIAN_BORDER,
    DataSpec,
    InputError,
    Placement,
    RealData,
    colours_at,
    draw_real,
    even_factors,
    points_of,
    starting_noise,
    sum_gaussians,
)

PUBLISHED_POINTS = 22  # of an image of 32x32 at one image per class
FIT_LR = 1e-2  # published, Adam


class Gsdd(Decoded):
    """As many images of every class as the budget buys, each a sum of Gaussians.

    What a Gaussian adds is its colour times its opacity. Each item is a canvas and a cell of its
    own, class by class, as in `images`.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: budget in images per class; None for 1.

    Raises:
        InputError: the budget is below one image for every class.
    """

    def __init__(self, options: GsddOptions, *, spec: DataSpec, ipc: float | None = None) -> None:
        super().__init__()
        self.options = options
        channels, height, width = spec.image_shape
        points = options.points or points_of((height, width), PUBLISHED_POINTS)
        self.layout = image_layout(spec, images_per_class(points, spec, 1 if ipc is None else ipc))
        shape = (self.layout.num_canvases, points)
        self.means = nn.Parameter(torch.zeros(*shape, 2))
        self.factors = nn.Parameter(torch.zeros(*shape, 3))  # l11, l21, l22
        self.colours = nn.Parameter(torch.zeros(*shape, channels))
        self.opacities = nn.Parameter(torch.zeros(shape))

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Spread Gaussians at random; fit each image to a real one of its class, if asked."""
        self.means.copy_(uniform(self.means, generator) * GAUSSIAN_BORDER)
        self.factors.copy_(even_factors(self.means.shape[1]).expand_as(self.factors))
        self.opacities.fill_(1.0)
        if self.options.init == "noise":
            shape = (self.colours.shape[2], *self.layout.canvas_hw)
            colours = starting_noise(self.colours.shape, shape, generator=generator)
            self.colours.copy_(colours)
            return
        goal = draw_real(real, placement.cell_class, generator=generator).float()
        self.colours.copy_(colours_at(self.means, goal))
        self.fit(goal, lr=FIT_LR, steps=self.options.fit_steps)

    def decode(self, which: Tensor | slice) -> Tensor:
        """Sum the Gaussians of items at every place, and average over pixels: (n, C, h, w)."""
        return sum_gaussians(
            self.means[which],
            self.factors[which],
            self.colours[which] * self.opacities[which][..., None],
            hw=self.layout.canvas_hw,
        )

    def penalty(self) -> Tensor | None:
        """Return the published boundary loss, which keeps means off the border of an image."""
        if not self.options.boundary:
            return None
        inside = 1 - self.means.clamp(-GAUSSIAN_BORDER, GAUSSIAN_BORDER).square()
        return -self.options.boundary * inside.log().sum(-1).mean()

    @torch.no_grad()
    def project(self) -> None:
        """Put means back into the image."""
        self.means.clamp_(-GAUSSIAN_BORDER, GAUSSIAN_BORDER)


def images_per_class(points: int, spec: DataSpec, ipc: float) -> int:
    """Return how many images of `points` Gaussians the budget buys for each class.

    Raises:
        InputError: not one.

    >>> cifar10 = DataSpec("cifar10", tuple("0123456789"), (3, 32, 32), ())
    >>> images_per_class(22, cifar10, 1)
    15
    """
    image = math.prod(spec.image_shape)
    stored = points * (6 + spec.image_shape[0])
    return as_many(
        ipc * image / stored,
        InputError(
            f"an image of {points} Gaussians has {stored} numbers, more than --ipc {ipc:g}.",
            expected=f"at least {stored / image:.4g} images per class, for one image of each.",
            next="pass fewer -o repr.points, or a larger --ipc.",
        ),
    )
