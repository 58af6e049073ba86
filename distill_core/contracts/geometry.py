"""Where training images and classes lie: boxes on canvases, as data, and areas in closed form.

A representation describes itself by a `Layout`, and an orderer fills its class grid; together they
are a `Placement`. Everything a labeler needs follows from `overlap_area`. All tensors here are
int64 on the CPU. Canvases may wrap around (`Layout.wraps`): a box that leaves the canvas at the
bottom or the right continues at the opposite border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from registry import InputError

MOST_PAIRS = 2**20  # of a box and a cell that are looked at at once


@dataclass(frozen=True)
class Boxes:
    """Addresses of n boxes.

    Attributes:
        canvas: (n,) index of the canvas.
        yxyx: (n, 4) pixels, half open: y0 x0 y1 x1.
        item: (n,) index of the box among the layout's items, or -1 if it is not one.
    """

    canvas: Tensor
    yxyx: Tensor
    item: Tensor

    @staticmethod
    def of(canvas: Tensor, yxyx: Tensor) -> Boxes:
        """Make boxes that are the items 0, 1, 2, ... of a layout."""
        return Boxes(canvas.long(), yxyx.long(), torch.arange(len(canvas)))

    def __len__(self) -> int:
        return len(self.canvas)

    def __getitem__(self, index: Tensor | slice) -> Boxes:
        return Boxes(self.canvas[index], self.yxyx[index], self.item[index])

    @property
    def hw(self) -> tuple[int, int]:
        """Common height and width of the boxes, in pixels.

        Raises:
            InputError: there are none, or their sizes differ.
        """
        sizes = self.yxyx[:, 2:] - self.yxyx[:, :2]
        # Comparing with the first is a hundred times faster than `unique`.
        if not len(sizes) or bool((sizes != sizes[0]).any()):
            raise InputError(
                f"{len(self)} boxes have {len(torch.unique(sizes, dim=0))} different sizes.",
                expected="one size for all training images.",
                next="fix the representation that made them, or choose another --repr.",
            )
        return int(sizes[0, 0]), int(sizes[0, 1])


@dataclass(frozen=True)
class Layout:
    """The geometry of a representation; fixed when it is made.

    Attributes:
        canvas_hw: height and width of every canvas, pixels.
        num_canvases: number of canvases.
        items: one box for every training image.
        cells: one box for every class cell, the pixels that a slot of the class grid owns; they may
            overlap. There may be more cells than slots (several images of a class). A labeler with
            a label grid has one row for every cell.
        cell_slot: (m,) the slot of every cell, in reading order of the class grid.
        grid_shape: rows and columns of the class grid; rows * cols is the number of classes.
        wraps: boxes that leave a canvas continue at its opposite border.
    """

    canvas_hw: tuple[int, int]
    num_canvases: int
    items: Boxes
    cells: Boxes
    cell_slot: Tensor
    grid_shape: tuple[int, int]
    wraps: bool = False


def layout_fault(layout: object) -> str | None:
    """Say what does not hold together in a layout, to be read after its owner's name.

    Boxes must lie on canvases that are there, and every slot of the class grid must have cells.

    Returns:
        "has no items", for example; None where all is well.
    """
    if not isinstance(layout, Layout):
        return f"has a layout that is a {type(layout).__name__}"
    return next(_faults(layout), None)


def _faults(layout: Layout) -> Iterator[str]:
    if not len(layout.items):
        yield "has no items"
    height, width = layout.canvas_hw
    for what, boxes in (("items", layout.items), ("cells", layout.cells)):
        if not all(part.dtype == torch.int64 for part in (boxes.canvas, boxes.yxyx, boxes.item)):
            yield f"has {what} that are not int64"
        if bool(((boxes.canvas < 0) | (boxes.canvas >= layout.num_canvases)).any()):
            yield f"has {what} on a canvas that is not there"
        y0, x0, y1, x1 = boxes.yxyx.unbind(1)
        inside = (y0 >= 0) & (x0 >= 0) & (y0 < height) & (x0 < width) & (y1 > y0) & (x1 > x0)
        if not layout.wraps:
            inside &= (y1 <= height) & (x1 <= width)
        if not bool(inside.all()):
            yield f"has {what} that are empty or leave the canvas"
    if not torch.equal(layout.items.item, torch.arange(len(layout.items))):
        yield "does not number its items 0, 1, 2..."
    if len(layout.cell_slot) != len(layout.cells):
        yield "does not give every cell a slot"
    rows, cols = layout.grid_shape
    if not torch.equal(torch.unique(layout.cell_slot), torch.arange(rows * cols)):
        yield "leaves slots of the grid without cells"


@dataclass(frozen=True)
class Placement:
    """A layout and the orderer's class grid.

    Attributes:
        layout: the representation's geometry.
        class_grid: (rows, cols) a permutation of the classes.
    """

    layout: Layout
    class_grid: Tensor

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return self.class_grid.numel()

    @property
    def cell_class(self) -> Tensor:
        """(m,) the class of every cell."""
        return self.class_grid.reshape(-1)[self.layout.cell_slot]


def check_class_grid(
    class_grid: Tensor, grid_shape: tuple[int, int], *, who: str = "the orderer"
) -> Tensor:
    """Return the class grid as int64 if it is a permutation of the right shape.

    Args:
        class_grid: as it was returned.
        grid_shape: rows and columns.
        who: returned it, for the message.

    Raises:
        InputError: it is not.
    """
    rows, cols = grid_shape
    if tuple(class_grid.shape) != (rows, cols):
        raise InputError(
            f"{who} returned a grid of shape {tuple(class_grid.shape)}.",
            expected=f"shape ({rows}, {cols}).",
            next="fix the orderer; distill_core.testing.check_orderer finds such mistakes.",
        )
    flat = class_grid.reshape(-1).long().cpu()
    if not torch.equal(flat.sort().values, torch.arange(rows * cols)):
        missing = sorted(set(range(rows * cols)) - set(flat.tolist()))
        raise InputError(
            f"{who} returned a grid that is not a permutation of the classes; "
            f"missing: {missing[:10]}.",
            expected=f"every class from 0 to {rows * cols - 1} exactly once.",
            next="fix the orderer; distill_core.testing.check_orderer finds such mistakes.",
        )
    return class_grid.long().cpu()


def overlap_area(a: Boxes, b: Boxes, *, period: tuple[int, int] | None = None) -> Tensor:
    """Return the area, in pixels, that every box of `a` shares with every box of `b`.

    Args:
        a: n boxes.
        b: m boxes.
        period: height and width of canvases that wrap around; None if they do not. A box longer
            than the period covers its own pixels more than once, and each time counts.

    Returns:
        (n, m) int64; zero for boxes on different canvases.
    """
    return _common(a.yxyx[:, None], b.yxyx, period) * (a.canvas[:, None] == b.canvas)


def _common(a: Tensor, b: Tensor, period: tuple[int, int] | None) -> Tensor:
    """Return the common area of boxes (..., 4) y0 x0 y1 x1 on one canvas, broadcast."""
    height, width = period or (None, None)
    return _overlap_length(a[..., 0::2], b[..., 0::2], height) * _overlap_length(
        a[..., 1::2], b[..., 1::2], width
    )


def _overlap_length(a: Tensor, b: Tensor, period: int | None) -> Tensor:
    """Return the common length of half-open intervals (..., 2), broadcast, on a circle if asked."""
    if period is None or not a.numel() or not b.numel():
        shifts = [0]
    else:
        lowest = int((a[..., 0].min() - b[..., 1].max()) // period)
        highest = int((a[..., 1].max() - b[..., 0].min()) // period)
        shifts = [turn * period for turn in range(lowest, highest + 1)]
    total = torch.zeros((), dtype=torch.int64)
    for shift in shifts:
        start = torch.maximum(a[..., 0], b[..., 0] + shift)
        stop = torch.minimum(a[..., 1], b[..., 1] + shift)
        total = total + (stop - start).clamp_min(0)
    return total


def period_of(layout: Layout) -> tuple[int, int] | None:
    """Return the period for `overlap_area`: the canvas size if it wraps, otherwise None."""
    return layout.canvas_hw if layout.wraps else None


def class_coverage(boxes: Boxes, placement: Placement) -> Tensor:
    """Count how many pixels of each class every box covers.

    Args:
        boxes: n boxes.
        placement: cells and their classes; a pixel in two cells counts twice.

    Returns:
        (n, K) int64, pixels.

    Source: Shul et al. 2024 (arXiv:2403.12040), section 4.3. Rows are one-hot up to a factor if
    every canvas is one cell, as with images per class.
    """
    layout = placement.layout
    num_classes, of_cell = placement.num_classes, placement.cell_class
    coverage = torch.zeros(len(boxes), num_classes, dtype=torch.int64)
    # Of few boxes at a time: each pair of a box and a cell takes a hundred bytes meanwhile.
    pairs = int(torch.bincount(layout.cells.canvas).max()) if len(layout.cells) else 1
    size = max(1, MOST_PAIRS // max(1, pairs))
    for start in range(0, len(boxes), size):
        some = slice(start, start + size)
        box, cell = _on_one_canvas(boxes.canvas[some], layout.cells.canvas)
        area = _common(boxes.yxyx[some][box], layout.cells.yxyx[cell], period_of(layout))
        coverage[some].view(-1).index_add_(0, box * num_classes + of_cell[cell], area)
    return coverage


def _on_one_canvas(boxes: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Pair every box with each cell on its canvas: (p,) and (p,) their numbers.

    With images per class a box meets a single cell. A table of all boxes and all cells would need
    more memory than there is.

    Args:
        boxes: (n,) the canvas of every box.
        cells: (m,) the canvas of every cell.
    """
    order = torch.argsort(cells, stable=True)
    first = torch.searchsorted(cells[order], boxes)
    count = torch.searchsorted(cells[order], boxes, right=True) - first
    box = torch.arange(len(boxes)).repeat_interleave(count)
    within = torch.arange(len(box)) - (count.cumsum(0) - count)[box]
    return box, order[first[box] + within]


def grid_cells(canvas_hw: tuple[int, int], grid_shape: tuple[int, int]) -> Tensor:
    """Tile a canvas with a grid, as nearest-neighbour upsampling of the grid would.

    Pixel y belongs to row floor(y * rows / height).

    Returns:
        (rows * cols, 4) int64 boxes y0 x0 y1 x1, row by row.

    >>> grid_cells((3, 4), (2, 2)).tolist()
    [[0, 0, 2, 2], [0, 2, 2, 4], [2, 0, 3, 2], [2, 2, 3, 4]]
    """
    height, width = canvas_hw
    rows, cols = grid_shape
    y = [-(-row * height // rows) for row in range(rows + 1)]
    x = [-(-col * width // cols) for col in range(cols + 1)]
    return torch.tensor(
        [[y[r], x[c], y[r + 1], x[c + 1]] for r in range(rows) for c in range(cols)]
    ).reshape(-1, 4)
