"""Affine resampling of images that can be differentiated to any order, forward and reverse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_BILINEAR, _ZEROS = 0, 0


def warp(images: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Resample images under affine maps, bilinearly, with zeros outside.

    The pixel at position p = (row, column), counted from the image's centre, takes the value at
    `matrix @ p + shift`. Positions are pixels, so a rotation stays one on images that are not
    square; on square ones this is `affine_grid` and `grid_sample` with align_corners False.

    Args:
        images: (n, C, h, w), carries the gradient.
        matrix: (n, 2, 2), a constant.
        shift: (n, 2) pixels, a constant.
    """
    height, width = images.shape[2:]
    y = (torch.arange(height, device=images.device) - (height - 1) / 2).to(matrix.dtype)
    x = (torch.arange(width, device=images.device) - (width - 1) / 2).to(matrix.dtype)
    at_y, at_x = (
        matrix[:, axis, 0, None, None] * y[:, None]
        + (matrix[:, axis, 1, None, None] * x + shift[:, axis, None, None])
        for axis in (0, 1)
    )
    grid = torch.stack([at_x * (2 / width), at_y * (2 / height)], 3)
    warped: Tensor = _Sample.apply(images, grid)
    return warped


class _Sample(Function):
    """`grid_sample` as a linear map of the images, which gives it a forward-mode derivative.

    A linear map is its own derivative; PyTorch's operator lacks the forward one. It also costs
    less, because no derivative in the grid is ever computed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, grid: Tensor) -> Tensor:
        return torch.grid_sampler_2d(images, grid, _BILINEAR, _ZEROS, False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        images, grid = inputs
        ctx.save_for_backward(grid)
        ctx.save_for_forward(grid)
        ctx.hw = images.shape[2:]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(cotangents[0], grid, ctx.hw), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        (grid,) = ctx.saved_tensors
        moved: Tensor = _Sample.apply(tangents[0], grid)
        return moved


class _Spread(Function):
    """The transpose of `_Sample`; its own transpose is `_Sample` again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(cotangent: Tensor, grid: Tensor, hw: tuple[int, int]) -> Tensor:
        # The operator reads no more than the shape of the images for their gradient.
        images = cotangent.new_zeros(()).expand(*cotangent.shape[:2], *hw)
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            cotangent, images, grid, _BILINEAR, _ZEROS, False, (True, False)
        )[0]
        return spread

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, tuple[int, int]], output: Tensor
    ) -> None:
        _, grid, ctx.hw = inputs
        ctx.save_for_backward(grid)
        ctx.save_for_forward(grid)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(cotangents[0], grid), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        (grid,) = ctx.saved_tensors
        moved: Tensor = _Spread.apply(tangents[0], grid, ctx.hw)
        return moved
