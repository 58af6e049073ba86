"""The layout of posters: canvases, patches and class cells from options, data and budget."""

from __future__ import annotations

from itertools import product
from math import ceil, floor, prod, sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill_core.plugin import (
    Boxes,
    DataSpec,
    InputError,
    Layout,
    class_grid_shape,
    grid_cells,
)
from podd_plugin.poster_size import (
    BLOCKS,
    DEFAULT_IPC,
    cyclic_starts,
    even_starts,
    patch_grid,
    poster_size,
)

if TYPE_CHECKING:
    from podd_plugin.options import PosterOptions

MOST_PATCHES = 2**20  # of a canvas: each is listed


def poster_layout(
    options: PosterOptions, spec: DataSpec, ipc: float | None, item_draws: int | None = None
) -> tuple[Layout, tuple[int, int], tuple[int, int]]:
    """Lay out a poster.

    Args:
        options: the poster's settings.
        spec: facts about the data.
        ipc: budget of stored pixels, images per class; None for what option `size` needs, or the
            default.
        item_draws: patches that an inner loop of the algorithm draws; None: it has no such loop.

    Returns:
        The layout, and rows and columns of class cells and of blocks on each canvas; no blocks
        where a canvas has none.

    Raises:
        InputError: what is asked for does not fit together; see `Poster`.
    """
    patch_hw = spec.image_shape[1:]
    rows, cols = _class_grid(options, spec.num_classes)
    per_class = (ipc or 0) > 1 if options.per_class is None else options.per_class
    num_canvases = spec.num_classes if per_class else 1
    on_canvas = (1, 1) if per_class else (rows, cols)
    # Above 1 IPC the grid of cells, and with it a label grid, grows by sqrt(IPC) per side. A canvas
    # that is scaled up has no more labels than others of its budget.
    finer = max(1, round(sqrt(_stored_images(options, patch_hw, on_canvas, ipc))))
    cell_grid = (on_canvas[0] * finer, on_canvas[1] * finer)
    stored, blocks = _stored_size(options, spec.image_shape, on_canvas, cell_grid, ipc)
    size = (stored[0] * options.downsample, stored[1] * options.downsample)
    images = size[0] * size[1] / (patch_hw[0] * patch_hw[1] * on_canvas[0] * on_canvas[1])
    _check_cells(cell_grid, size)
    slots = torch.arange(rows * cols).reshape(num_canvases, *on_canvas)
    slots = slots.repeat_interleave(finer, 1).repeat_interleave(finer, 2)
    patches = options.patches or patch_grid(
        on_canvas,
        num_images=spec.num_classes * max(1, round(images)),
        num_canvases=num_canvases,
        small=spec.is_small,
        item_draws=item_draws if options.density == "passes" else None,
        least=(ceil(size[0] / patch_hw[0]), ceil(size[1] / patch_hw[1])),
        most=size if options.cyclic else (size[0] - patch_hw[0] + 1, size[1] - patch_hw[1] + 1),
    )
    if prod(patches) > MOST_PATCHES:
        raise InputError(
            f"{patches[0]}x{patches[1]} patches are too many for a canvas.",
            expected=f"at most {MOST_PATCHES:,} patches.",
            next="pass fewer -o repr.patches=ROWSxCOLS, or a smaller size.",
        )
    layout = Layout(
        canvas_hw=size,
        num_canvases=num_canvases,
        items=on_every_canvas(_patches(size, patch_hw, patches, options.cyclic), num_canvases),
        cells=on_every_canvas(grid_cells(size, cell_grid), num_canvases),
        cell_slot=slots.reshape(-1),
        grid_shape=(rows, cols),
        wraps=options.cyclic,
    )
    return layout, cell_grid, blocks


def stored_numbers(spec: DataSpec, ipc: float | None) -> int:
    """Return how many numbers the budget has for all canvases that are decoded from them."""
    # check_budget of the core allows the same rounding error.
    wanted = DEFAULT_IPC if ipc is None else ipc
    return floor(wanted * spec.num_classes * prod(spec.image_shape) * (1 + 1e-9))


def _stored_images(
    options: PosterOptions, patch_hw: tuple[int, int], on_canvas: tuple[int, int], ipc: float | None
) -> float:
    """Images of every class that the stored numbers of a canvas would make."""
    if ipc is not None:
        return ipc
    if options.size is None or options.canvas != "pixels":
        return DEFAULT_IPC
    return prod(options.size) / (prod(patch_hw) * prod(on_canvas))


def _stored_size(
    options: PosterOptions,
    image_shape: tuple[int, ...],
    on_canvas: tuple[int, int],
    cell_grid: tuple[int, int],
    ipc: float | None,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of each canvas before it is scaled up, for `ipc` times the classes on it, and blocks."""
    channels, h, w = image_shape
    if options.downsample > min(h, w):
        raise InputError(
            f"a patch of {h}x{w} pixels would be less than a pixel at 1/{options.downsample} of "
            "its sides.",
            expected=f"repr.downsample of at most {min(h, w)}.",
            next="lower -o repr.downsample.",
        )
    least = (ceil(h / options.downsample), ceil(w / options.downsample))
    if options.size is not None:
        blocks = _blocks(options, options.size, cell_grid, least)
        _check_blocks(options.size, blocks)
        return _explicit_size(options.size, least), blocks
    pixels = (DEFAULT_IPC if ipc is None else ipc) * options.area_of((channels, *least))
    # check_budget of the core allows the same rounding error.
    budget = floor(pixels * on_canvas[0] * on_canvas[1] * h * w * (1 + 1e-9))
    size = poster_size(budget, (on_canvas[0] * h, on_canvas[1] * w), least)
    blocks = _blocks(options, size, cell_grid, least)
    if not all(blocks):
        return size, blocks
    if options.follows_patches:
        return (blocks[0] * least[0], blocks[1] * least[1]), blocks
    # Blocks are of one size: the nearest below that reaches over a patch.
    up = (-(-side // count) * count for side, count in zip(least, blocks, strict=True))
    down = (side // count * count for side, count in zip(size, blocks, strict=True))
    height, width = map(max, up, down)
    return (height, width), blocks


def _blocks(
    options: PosterOptions,
    size: tuple[int, int],
    cell_grid: tuple[int, int],
    least: tuple[int, int],
) -> tuple[int, int]:
    """Rows and columns of blocks on a canvas of about this size; 0 where it has none."""
    if options.follows_patches:
        return max(1, round(size[0] / least[0])), max(1, round(size[1] / least[1]))
    each = BLOCKS.get(options.canvas, 0) if options.blocks is None else options.blocks
    return cell_grid[0] * each, cell_grid[1] * each


def _check_blocks(size: tuple[int, int], blocks: tuple[int, int]) -> None:
    if any(count and side % count for side, count in zip(size, blocks, strict=True)):
        raise InputError(
            f"a canvas of {size[0]}x{size[1]} pixels cannot be cut into {blocks[0]}x{blocks[1]} "
            "blocks of one size.",
            expected=f"height and width that are multiples of {blocks[0]} and {blocks[1]}.",
            next="correct -o repr.size=HEIGHTxWIDTH, leave it out, or choose -o repr.blocks.",
        )


def _patches(
    size: tuple[int, int], patch_hw: tuple[int, int], patches: tuple[int, int], cyclic: bool
) -> Tensor:
    """(n, 4) boxes of the patches of one canvas, column by column."""
    h, w = patch_hw
    if cyclic:
        y, x = (cyclic_starts(*axis) for axis in zip(size, patches, strict=True))
    else:
        y, x = (even_starts(*axis) for axis in zip(size, patch_hw, patches, strict=True))
    return torch.tensor([[top, left, top + h, left + w] for left, top in product(x, y)])


def on_every_canvas(boxes: Tensor, num_canvases: int) -> Boxes:
    """The same boxes (k, 4) on every canvas, canvas by canvas."""
    canvas = torch.arange(num_canvases).repeat_interleave(len(boxes))
    return Boxes.of(canvas, boxes.repeat(num_canvases, 1))


def _class_grid(options: PosterOptions, num_classes: int) -> tuple[int, int]:
    rows, cols = options.classes or class_grid_shape(num_classes)
    if rows * cols != num_classes:
        few = "fewer" if rows * cols < num_classes else "more"
        raise InputError(
            f"a class grid of {rows}x{cols} has {few} places than the {num_classes} classes.",
            expected="rows x columns equal to the number of classes, for example {}x{}.".format(
                *class_grid_shape(num_classes)
            ),
            next="correct -o repr.classes=ROWSxCOLS, or leave it out.",
        )
    return rows, cols


def _explicit_size(size: tuple[int, int], patch_hw: tuple[int, int]) -> tuple[int, int]:
    if size[0] < patch_hw[0] or size[1] < patch_hw[1]:
        raise InputError(
            f"a poster of {size[0]}x{size[1]} pixels is smaller than a patch.",
            expected=f"height and width of at least {patch_hw[0]}x{patch_hw[1]}.",
            next="correct -o repr.size=HEIGHTxWIDTH, or leave it out and set --ipc.",
        )
    return size


def _check_cells(cell_grid: tuple[int, int], size: tuple[int, int]) -> None:
    if cell_grid[0] > size[0] or cell_grid[1] > size[1]:
        raise InputError(
            f"{cell_grid[0]}x{cell_grid[1]} class cells do not fit on {size[0]}x{size[1]} pixels.",
            expected="at least one pixel for every class on each side.",
            next="raise --ipc, or choose another class grid with -o repr.classes=ROWSxCOLS.",
        )
