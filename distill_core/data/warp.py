"""Affine resampling of images that can be differentiated to any order, forward and reverse."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_BILINEAR, _ZEROS = 0, 0


def warp(images: Tensor, matrix: Tensor, shift: Tensor, *, stretch: float | None = None) -> Tensor:
    """Resample images under affine maps, bilinearly, with zeros outside.

    The pixel at position p = (row, column), counted from the image's centre, takes the value at
    `matrix @ p + shift`. Positions are in pixels, so a rotation is also one on images that are not
    square; on square ones this is `affine_grid` and `grid_sample` with align_corners False.

    On CUDA, PyTorch's transpose adds by atomic operations, in a varying order. With a bound on the
    maps and `torch.use_deterministic_algorithms`, a gather replaces it there: the same up to
    rounding, in a fixed order. The CPU's transpose has a fixed order anyway.

    Args:
        images: (n, C, h, w), carries the gradient.
        matrix: (n, 2, 2), a constant.
        shift: (n, 2) pixels, a constant.
        stretch: a bound on the sum of absolute values of each row of the inverse of `matrix`. It is
            not checked, because that would wait for the device. None if no bound is known.
    """
    height, width = images.shape[2:]
    y, x = _from_centre(height, matrix), _from_centre(width, matrix)
    at_y, at_x = (
        matrix[:, axis, 0, None, None] * y[:, None]
        + (matrix[:, axis, 1, None, None] * x + shift[:, axis, None, None])
        for axis in (0, 1)
    )
    grid = torch.stack([at_x * (2 / width), at_y * (2 / height)], 3)
    radius = None if stretch is None else radius_of(stretch)
    warped: Tensor = _Sample.apply(images, grid, matrix, shift, radius)
    return warped


def _from_centre(side: int, like: Tensor) -> Tensor:
    return (torch.arange(side, device=like.device) - (side - 1) / 2).to(like.dtype)


class _Sample(Function):
    """`grid_sample` as a linear map of the images, which gives it a forward-mode derivative.

    A linear map is its own derivative; PyTorch's operator lacks the forward-mode one. It also costs
    less, because the derivative in the grid is never computed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        images: Tensor, grid: Tensor, matrix: Tensor, shift: Tensor, radius: int | None
    ) -> Tensor:
        return torch.grid_sampler_2d(images, grid, _BILINEAR, _ZEROS, False)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor, int | None], output: Tensor
    ) -> None:
        images, *maps, ctx.radius = inputs
        ctx.save_for_backward(*maps)
        ctx.save_for_forward(*maps)
        ctx.hw = images.shape[2:]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None, None, None]:
        spread: Tensor = _Spread.apply(cotangents[0], *ctx.saved_tensors, ctx.radius, ctx.hw)
        return spread, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        moved: Tensor = _Sample.apply(tangents[0], *ctx.saved_tensors, ctx.radius)
        return moved


class _Spread(Function):
    """The transpose of `_Sample`; its own transpose is `_Sample` again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(  # noqa: PLR0917
        cotangent: Tensor,
        grid: Tensor,
        matrix: Tensor,
        shift: Tensor,
        radius: int | None,
        hw: tuple[int, int],
    ) -> Tensor:
        if radius is not None and _order_matters(cotangent):
            return gathered(cotangent, grid, matrix, shift, radius)
        # For the gradient of the images the operator reads only their shape.
        images = cotangent.new_zeros(()).expand(*cotangent.shape[:2], *hw)
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            cotangent, images, grid, _BILINEAR, _ZEROS, False, (True, False)
        )[0]
        return spread

    @staticmethod
    def setup_context(
        ctx: Any,
        inputs: tuple[Tensor, Tensor, Tensor, Tensor, int | None, tuple[int, int]],
        output: Tensor,
    ) -> None:
        _, *maps, ctx.radius, ctx.hw = inputs
        ctx.save_for_backward(*maps)
        ctx.save_for_forward(*maps)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        moved: Tensor = _Sample.apply(cotangents[0], *ctx.saved_tensors, ctx.radius)
        return moved, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        moved: Tensor = _Spread.apply(tangents[0], *ctx.saved_tensors, ctx.radius, ctx.hw)
        return moved


def _order_matters(tensor: Tensor) -> bool:
    """Say whether sums must have a fixed order, on a device where they have not."""
    return tensor.device.type != "cpu" and torch.are_deterministic_algorithms_enabled()


def radius_of(stretch: float) -> int:
    """Return the largest distance of the warped pixels that read a pixel to its rounded preimage.

    A warped pixel o reads the pixel s if its position q(o) is within one pixel of s, in each
    direction. Then o lies within `stretch` of the preimage of s, because the inverse map stretches
    q(o) - s by no more. And the preimage is at most half a pixel from its rounded position.

    >>> radius_of(1.0), radius_of(1.49), radius_of(1.5)
    (1, 1, 2)
    """
    return math.floor(stretch + 0.5)


def gathered(cotangent: Tensor, grid: Tensor, matrix: Tensor, shift: Tensor, radius: int) -> Tensor:
    """Transpose of a warp: each pixel gathers from the warped pixels that read it.

    They lie around the pixel's preimage, with the weights of bilinear interpolation. The host does
    not wait for the device. Temporary memory is that of (2 radius + 1)**2 batches of images, less
    than the first layer of a network keeps.

    Args:
        cotangent: (n, C, h, w) of the warped images.
        grid: (n, h, w, 2) the positions at which they were read, as for `grid_sample`.
        matrix: (n, 2, 2) of the map, invertible.
        shift: (n, 2) pixels.
        radius: `radius_of` the maps.

    Returns:
        (n, C, h, w).
    """
    n, channels, height, width = cotangent.shape
    y, x = _from_centre(height, matrix), _from_centre(width, matrix)
    offset = torch.arange(-radius, radius + 1, device=cotangent.device)
    to_y, to_x = (place - shift[:, axis, None] for axis, place in enumerate((y, x)))
    (a, b), (c, d) = (row.unbind(1) for row in matrix.unbind(1))
    # Closed form: `torch.linalg.inv` would wait for the device, to check that an inverse exists.
    inverse = (torch.stack([d, -b, -c, a]) / (a * d - b * c))[:, :, None, None]
    rows, cols = (
        (to_y[:, :, None] * by_y + to_x[:, None] * by_x + (side - 1) / 2).round().long()
        for side, by_y, by_x in ((height, *inverse[:2]), (width, *inverse[2:]))
    )
    # (n, 2 radius + 1, 2 radius + 1, h, w) together: the candidates of every pixel.
    rows = rows[:, None, None] + offset[:, None, None, None]
    cols = cols[:, None, None] + offset[:, None, None]
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    index = (rows.clamp(0, height - 1) * width + cols.clamp(0, width - 1)).reshape(n, 1, -1)
    weight = inside.to(cotangent.dtype)
    for axis, side, place in ((1, height, y[:, None]), (0, width, x)):
        at = grid[..., axis].reshape(n, -1).gather(1, index[:, 0]).view(inside.shape) * (side / 2)
        weight = weight * (1 - (at - place).abs()).clamp_min(0)
    taken = cotangent.reshape(n, channels, -1).gather(2, index.expand(-1, channels, -1))
    candidates = taken.view(n, channels, -1, height, width)
    spread: Tensor = (candidates * weight.flatten(1, 2)[:, None]).sum(2)
    return spread
