"""Images as sums of coloured Gaussians: the places where they are seen, and their sum there.

A Gaussian at mu = (u, v) in [-1, 1]^2 has the covariance S = L L^T + B, where L is lower triangular
and B is that of a pixel. A pixel is the mean over 2x2 places p of
sum exp(-(p - mu)^T S^-1 (p - mu) / 2) c.

Source: GSDD, Jiang et al. 2025 (arXiv:2509.26219).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SAMPLES = 2  # supersampling: places on each side of a pixel
PIXEL_VARIANCE = 1 / 12  # of a box as wide as a pixel, in squared pixels
GAUSSIAN_BORDER = 63 / 64  # largest coordinate of a mean, exact in bfloat16, too


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

    All Gaussians of all images are evaluated together: one matrix product for their exponents and
    one for their colours.

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
    s11 = l11.square() + PIXEL_VARIANCE * (2 / width) ** 2
    s12 = l11 * l21
    s22 = l21.square() + l22.square() + PIXEL_VARIANCE * (2 / height) ** 2
    det = s11 * s22 - s12.square()
    # The exponent is a polynomial of the place: xx dx^2 + xy dx dy + yy dy^2, multiplied out.
    xx, xy, yy = -s22 / (2 * det), s12 / det, -s11 / (2 * det)
    x, y = -2 * xx * u - xy * v, -2 * yy * v - xy * u
    polynomials = torch.stack([xx, xy, yy, x, y, -(x * u + y * v) / 2], dim=-1)
    waves = (polynomials @ places).exp_()  # in place: these are the largest by far
    sums = (colours.transpose(1, 2) @ waves).view(len(means), -1, SAMPLES * height, SAMPLES * width)
    return functional.avg_pool2d(sums, SAMPLES)


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
