"""Representation `gsdd`: every image is a sum of a few coloured Gaussians.

A Gaussian has a place, a shape, a colour and an opacity: nine numbers with three channels. All
Gaussians of all images are evaluated together, one matrix product for their exponents and one for
their colours.

Source: GSDD, Jiang et al. 2025 (arXiv:2509.26219).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from distill_core.builtin.representations.decoded import Decoded, as_many, uniform
from distill_core.builtin.representations.images import image_layout
from distill_core.builtin.representations.options import GsddOptions
from distill_core.plugin import (
    DataSpec,
    InputError,
    Placement,
    RealData,
    draw_real,
    starting_noise,
)

PUBLISHED_POINTS = 22  # of an image of 32x32 at one image per class
LEAST_PIXELS = 16  # that a Gaussian of a small image stands for
FIT_LR = 1e-2  # published, Adam
SAMPLES = 2  # supersampling: places on each side of a pixel
PIXEL_VARIANCE = 1 / 12  # of a box as wide as a pixel, in squared pixels
BORDER = 63 / 64  # largest coordinate of a mean, exact in bfloat16, too


class Gsdd(Decoded):
    """As many images of every class as the budget buys, each a sum of Gaussians.

    A Gaussian at mu = (u, v) in [-1, 1]^2 has the covariance S = L L^T + B, where L is lower
    triangular and B is that of a pixel. A pixel is the mean over 2x2 places p of
    sum alpha exp(-(p - mu)^T S^-1 (p - mu) / 2) c. Each item is a canvas and a cell of its own,
    class by class, as in `images`.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: budget in images per class; None for 1.

    Raises:
        InputError: the budget is below one image for every class.
    """

    monomials: Tensor

    def __init__(self, options: GsddOptions, *, spec: DataSpec, ipc: float | None = None) -> None:
        super().__init__()
        self.options = options
        channels, height, width = spec.image_shape
        points = options.points or min(PUBLISHED_POINTS, max(1, height * width // LEAST_PIXELS))
        self.layout = image_layout(spec, images_per_class(points, spec, 1 if ipc is None else ipc))
        shape = (self.layout.num_canvases, points)
        self.means = nn.Parameter(torch.zeros(*shape, 2))
        self.factors = nn.Parameter(torch.zeros(*shape, 3))  # l11, l21, l22
        self.colours = nn.Parameter(torch.zeros(*shape, channels))
        self.opacities = nn.Parameter(torch.zeros(shape))
        self.register_buffer("monomials", _monomials(height, width), persistent=False)

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Spread Gaussians at random; fit each image to a real one of its class, if asked."""
        points = self.means.shape[1]
        self.means.copy_(uniform(self.means, generator) * BORDER)
        side = 1 / math.sqrt(points)  # half the distance of neighbours
        self.factors.copy_(torch.tensor([side, 0.0, side]).expand_as(self.factors))
        self.opacities.fill_(1.0)
        if self.options.init == "noise":
            shape = (self.colours.shape[2], *self.layout.canvas_hw)
            colours = starting_noise(self.colours.shape, shape, generator=generator)
            self.colours.copy_(colours)
            return
        goal = draw_real(real, placement.cell_class, generator=generator).float()
        seen = functional.grid_sample(goal, self.means[:, None], align_corners=False)
        # Where they stand they overlap pi / 2 times on average.
        self.colours.copy_(seen[:, :, 0].transpose(1, 2) * (2 / math.pi))
        self.fit(goal, lr=FIT_LR, steps=self.options.fit_steps)

    def decode(self, which: Tensor | slice) -> Tensor:
        """Sum the Gaussians of items at every place, and average over pixels: (n, C, h, w)."""
        height, width = self.layout.canvas_hw
        u, v = self.means[which].unbind(-1)
        l11, l21, l22 = self.factors[which].unbind(-1)
        s11 = l11.square() + PIXEL_VARIANCE * (2 / width) ** 2
        s12 = l11 * l21
        s22 = l21.square() + l22.square() + PIXEL_VARIANCE * (2 / height) ** 2
        det = s11 * s22 - s12.square()
        # The exponent is a polynomial of the place: xx dx^2 + xy dx dy + yy dy^2, multiplied out.
        xx, xy, yy = -s22 / (2 * det), s12 / det, -s11 / (2 * det)
        x, y = -2 * xx * u - xy * v, -2 * yy * v - xy * u
        polynomials = torch.stack([xx, xy, yy, x, y, -(x * u + y * v) / 2], dim=-1)
        waves = (polynomials @ self.monomials).exp_()  # in place: these are the largest by far
        colours = (self.colours[which] * self.opacities[which][..., None]).transpose(1, 2)
        sums = (colours @ waves).view(*colours.shape[:2], SAMPLES * height, SAMPLES * width)
        return functional.avg_pool2d(sums, SAMPLES)

    def penalty(self) -> Tensor | None:
        """Return the published boundary loss, which keeps means off the border of an image."""
        if not self.options.boundary:
            return None
        inside = 1 - self.means.clamp(-BORDER, BORDER).square()
        return -self.options.boundary * inside.log().sum(-1).mean()

    @torch.no_grad()
    def project(self) -> None:
        """Put means back into the image."""
        self.means.clamp_(-BORDER, BORDER)


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


def _monomials(height: int, width: int) -> Tensor:
    """Return x^2, xy, y^2, x, y and 1 at all places: (6, 4 h w), row by row."""
    y, x = (
        (2 * torch.arange(SAMPLES * side, dtype=torch.float64) + 1) / (SAMPLES * side) - 1
        for side in (height, width)
    )
    x, y = x.repeat(SAMPLES * height), y.repeat_interleave(SAMPLES * width)
    return torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)]).float()
