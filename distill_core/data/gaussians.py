"""Images as sums of coloured Gaussians: the places where they are seen, and their sum there.

A Gaussian at mu = (u, v) in [-1, 1]^2 has the covariance S = L L^T + B, where L is lower triangular
and B is that of a pixel. A pixel is the mean over 2x2 places p of
sum exp(-(p - mu)^T S^-1 (p - mu) / 2) c.

Source: GSDD, Jiang et al. 2025 (arXiv:2509.26219).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

SAMPLES = 2  # supersampling: places on each side of a pixel
PIXEL_VARIANCE = 1 / 12  # of a box as wide as a pixel, in squared pixels
GAUSSIAN_BORDER = 63 / 64  # largest coordinate of a mean, exact in bfloat16, too
FLOOR = -50.0  # of exponents; exp(-50) times a colour is lost in any sum
# Numbers that are evaluated at once: what a core's cache holds, or enough to fill a card.
PIECE = {"cpu": 2**18, "cuda": 2**26}


def gaussian_places(height: int, width: int) -> Tensor:
    """Return x^2, xy, y^2, x, y and 1 at the four places of every pixel: (6, 4 h w), row by row."""
    y, x = (
        (2 * torch.arange(SAMPLES * side, dtype=torch.float64) + 1) / (SAMPLES * side) - 1
        for side in (height, width)
    )
    x, y = x.repeat(SAMPLES * height), y.repeat_interleave(SAMPLES * width)
    return torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)]).float()


def sum_gaussians(
    means: Tensor, factors: Tensor, colours: Tensor, *, places: Tensor, hw: tuple[int, int]
) -> Tensor:
    """Sum the Gaussians of every image, differentiable in all that they are.

    Images are taken in pieces, and their Gaussians are evaluated again for the derivative: nothing
    of the size of all Gaussians times all places is ever kept, and the rest stays in the cache.

    Args:
        means: (n, points, 2) u across and v down, -1 to 1.
        factors: (n, points, 3) l11, l21, l22 of L.
        colours: (n, points, C).
        places: `gaussian_places` of `hw`.
        hw: height and width of an image, pixels.

    Returns:
        (n, C, h, w).
    """
    height, width = hw
    u, v = means.unbind(-1)
    l11, l21, l22 = factors.unbind(-1)
    across, down = (PIXEL_VARIANCE * (2 / side) ** 2 for side in (width, height))
    own = l22.square() + down
    s11, s12, s22 = l11.square() + across, l11 * l21, l21.square() + own
    det = l11.square() * own + across * s22  # s11 s22 - s12^2, less what cancels
    # The exponent is a polynomial of the place: xx dx^2 + xy dx dy + yy dy^2, multiplied out.
    xx, xy, yy = -s22 / (2 * det), s12 / det, -s11 / (2 * det)
    x, y = -2 * xx * u - xy * v, -2 * yy * v - xy * u
    polynomials = torch.stack([xx, xy, yy, x, y, -(x * u + y * v) / 2], dim=-1)
    sums: Tensor = _Sum.apply(polynomials, colours, places)
    return functional.avg_pool2d(
        sums.view(*sums.shape[:2], SAMPLES * height, SAMPLES * width), SAMPLES
    )


class _Sum(Function):
    """Sums of exp(polynomials @ places) times colours, differentiable to any order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(polynomials: Tensor, colours: Tensor, places: Tensor) -> Tensor:
        """Return (n, C, places), of (n, points, 6), (n, points, C) and (6, places)."""
        return torch.cat(
            [
                colours[piece].mT @ _waves(polynomials[piece], places)
                for piece in _pieces(polynomials, places)
            ]
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, None]:
        polynomials, colours, places = ctx.saved_tensors
        grads = []
        for piece in _pieces(polynomials, places):
            waves = _waves(polynomials[piece], places)
            cotangent = cotangents[0][piece]
            exponents = colours[piece] @ cotangent * waves
            grads.append((exponents @ places.T, waves @ cotangent.mT))
        by_polynomials, by_colours = map(torch.cat, zip(*grads, strict=True))
        return by_polynomials, by_colours, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        polynomials, colours, places = ctx.saved_tensors
        moved = []
        for piece in _pieces(polynomials, places):
            waves = _waves(polynomials[piece], places)
            exponents = tangents[0][piece] @ places
            moved.append(colours[piece].mT @ (exponents * waves) + tangents[1][piece].mT @ waves)
        return torch.cat(moved)


def _waves(polynomials: Tensor, places: Tensor) -> Tensor:
    """Return what Gaussians are at all places, at least 2e-22: processors are slow near zero."""
    return (polynomials @ places).clamp(min=FLOOR).exp_()


def _pieces(polynomials: Tensor, places: Tensor) -> Iterator[slice]:
    """Cut the images into runs of as many as `PIECE` holds, at least one; no images are one run."""
    images, points = polynomials.shape[:2]
    numbers = PIECE.get(polynomials.device.type, PIECE["cpu"])
    size = max(1, numbers // max(1, points * places.shape[1]))
    return (slice(first, first + size) for first in range(0, max(1, images), size))


def even_factors(points: int) -> Tensor:
    """Return factors (3,) of round Gaussians as wide as half the distance of neighbours."""
    side = points**-0.5
    return torch.tensor([side, 0.0, side])


def colours_at(means: Tensor, images: Tensor) -> Tensor:
    """Return colours with which Gaussians of even factors sum up to about the given images.

    Args:
        means: (n, points, 2).
        images: (n, C, h, w).

    Returns:
        (n, points, C).
    """
    seen = functional.grid_sample(images, means[:, None], align_corners=False)
    # Where they stand they overlap pi / 2 times on average.
    return seen[:, :, 0].transpose(1, 2) * (2 / math.pi)
