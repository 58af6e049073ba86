"""Images as sums of coloured Gaussians.

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


def sum_gaussians(
    means: Tensor, factors: Tensor, colours: Tensor, *, hw: tuple[int, int]
) -> Tensor:
    """Sum the Gaussians of every image, differentiable in all that they are.

    Images are taken in pieces, and their Gaussians are evaluated again for the derivative: nothing
    of the size of all Gaussians times all places is ever kept, and the rest stays in the cache.

    Args:
        means: (n, points, 2) u across and v down, -1 to 1.
        factors: (n, points, 3) l11, l21, l22 of L.
        colours: (n, points, C).
        hw: height and width of an image, pixels.

    Returns:
        (n, C, h, w), of the widest of their types, in which everything is computed.
    """
    wide = torch.promote_types(torch.promote_types(means.dtype, factors.dtype), colours.dtype)
    means, factors, colours = means.to(wide), factors.to(wide), colours.to(wide)
    height, width = hw
    across, down = (PIXEL_VARIANCE * (2 / side) ** 2 for side in (width, height))
    l11, l21, l22 = factors[..., None].unbind(-2)
    own = l22.square() + down
    s11, s12, s22 = l11.square() + across, l11 * l21, l21.square() + own
    det = l11.square() * own + across * s22  # s11 s22 - s12^2, less what cancels
    dx, dy = _places(width, means) - means[..., :1], _places(height, means) - means[..., 1:]
    # The exponent is yy dy^2 + xx dx^2 + xy dx dy: a product of rows and columns of places.
    ones = torch.ones_like
    rows = torch.stack([-s11 / (2 * det) * dy.square(), ones(dy), dy], dim=-1)
    columns = torch.stack([ones(dx), -s22 / (2 * det) * dx.square(), s12 / det * dx], dim=-2)
    sums: Tensor = _Sum.apply(rows, columns, colours)
    return functional.avg_pool2d(sums, SAMPLES)


def _places(side: int, like: Tensor) -> Tensor:
    """Return the coordinates of all places along a side of so many pixels: -1 to 1."""
    fine = torch.arange(SAMPLES * side, dtype=like.dtype, device=like.device)
    return (2 * fine + 1) / (SAMPLES * side) - 1


class _Sum(Function):
    """Sums of exp(rows @ columns) times colours, differentiable to any order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, columns: Tensor, colours: Tensor) -> Tensor:
        """Return (n, C, H, W), of (n, points, H, 3), (n, points, 3, W) and (n, points, C)."""
        sums = [
            _mixed(colours[piece], _waves(rows[piece], columns[piece]))
            for piece in _pieces(rows, columns)
        ]
        return torch.cat(sums)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, columns, colours = ctx.saved_tensors
        grads = []
        for piece in _pieces(rows, columns):
            waves, cotangent = _waves(rows[piece], columns[piece]), cotangents[0][piece]
            exponents = _mixed(colours[piece].mT, cotangent) * waves
            by_colours = waves.flatten(2) @ cotangent.flatten(2).mT
            grads.append((exponents @ columns[piece].mT, rows[piece].mT @ exponents, by_colours))
        by_rows, by_columns, by_colours = map(torch.cat, zip(*grads, strict=True))
        return by_rows, by_columns, by_colours

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        rows, columns, colours = ctx.saved_tensors
        moved = []
        for piece in _pieces(rows, columns):
            waves = _waves(rows[piece], columns[piece])
            exponents = tangents[0][piece] @ columns[piece] + rows[piece] @ tangents[1][piece]
            moved.append(
                _mixed(colours[piece], exponents * waves) + _mixed(tangents[2][piece], waves)
            )
        return torch.cat(moved)


def _waves(rows: Tensor, columns: Tensor) -> Tensor:
    """Return what Gaussians are at all places, at least 2e-22: processors are slow near zero."""
    return (rows @ columns).clamp(min=FLOOR).exp_()


def _mixed(weights: Tensor, maps: Tensor) -> Tensor:
    """Return sums over k of maps (n, k, H, W), weighted by (n, k, m): (n, m, H, W)."""
    mixed = weights.mT @ maps.flatten(2)
    return mixed.view(*mixed.shape[:2], *maps.shape[2:])


def _pieces(rows: Tensor, columns: Tensor) -> Iterator[slice]:
    """Cut the images into runs of as many as `PIECE` holds, at least one; no images are one run."""
    images, points, height, _ = rows.shape
    numbers = PIECE.get(rows.device.type, PIECE["cpu"])
    size = max(1, numbers // max(1, points * height * columns.shape[3]))
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
