"""Starting pixels of a poster: noise, or areas of the size of an image, cross-faded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from distill_core.plugin import RealData, draw_real
from podd_plugin.poster_size import even_starts


def area_grid(
    cell_grid: tuple[int, int], canvas_hw: tuple[int, int], area_hw: tuple[int, int]
) -> Tensor:
    """Say to which cell each area of a mosaic belongs.

    One area for each cell, and more where that would leave gaps between them.

    Returns:
        (rows, cols) int64 index of a cell, in reading order of `cell_grid`.
    """
    index = []
    for cells, side, length in zip(cell_grid, canvas_hw, area_hw, strict=True):
        count = max(cells, -(-side // length))
        index.append(torch.arange(count) * cells // count)
    return index[0][:, None] * cell_grid[1] + index[1]


def mosaic(areas: Tensor, canvas_hw: tuple[int, int]) -> Tensor:
    """Lay areas evenly over a canvas and fade from each to the next where they overlap.

    Args:
        areas: (rows, cols, C, h, w).
        canvas_hw: height and width, pixels; at least h and w.

    Returns:
        (C, H, W). Every pixel is a weighted mean of the areas over it.

    Source: the published PoDD code, which fades rows first, then columns. There a class grid
        with more rows than columns loses rows; not here.
    """
    rows, cols, _, h, w = areas.shape
    down = crossfade(even_starts(canvas_hw[0], h, rows), h, canvas_hw[0]).to(areas)
    across = crossfade(even_starts(canvas_hw[1], w, cols), w, canvas_hw[1]).to(areas)
    return torch.einsum("rcaij,riy,cjx->ayx", areas, down, across)


def crossfade(starts: Sequence[int], length: int, side: int) -> Tensor:
    """Weights that fade linearly from each stretch of a side to the next.

    Args:
        starts: where the stretches begin, ascending.
        length: how long each is.
        side: length of the side.

    Returns:
        (stretches, length, side): the weight of pixel j of a stretch at place x. Sums to 1 over
        the stretches wherever one of them lies.
    """
    weights = torch.zeros(len(starts), length, side)
    pixel = torch.arange(length)
    end = 0
    for i, start in enumerate(starts):
        overlap = max(end - start, 0)
        fade = torch.ones(length)
        fade[:overlap] = torch.arange(1, overlap + 1) / (overlap + 1)
        weights[:i, :, start : start + length] *= 1 - fade
        weights[i, pixel, start + pixel] = fade
        end = start + length
    return weights


def unit_areas(count: int, item_shape: tuple[int, int, int], *, generator: Generator) -> Tensor:
    """Gaussian areas of norm 1: (count, C, h, w).

    Source: the published PoDD code draws a mean for each class and adds a little noise before
        it divides by the norm, which has the same distribution.
    """
    areas = torch.randn(count, *item_shape, generator=generator)
    norms: Tensor = areas.flatten(1).norm(dim=1)
    return areas / norms.reshape(-1, 1, 1, 1)


def real_areas(real: RealData, classes: Tensor, *, generator: Generator) -> Tensor:
    """A random real image for each of `classes` (...): (..., C, h, w)."""
    drawn = draw_real(real, classes.reshape(-1), generator=generator)
    return drawn.reshape(*classes.shape, *drawn.shape[1:])
