"""Labeler `poddl`: labels from where a box lies, learned on a grid or fixed by the majority."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from distill_core.plugin import (
    Boxes,
    InputError,
    ItemTable,
    Labeler,
    Layout,
    Placement,
    check_every_class,
    check_touched,
    class_coverage,
    grid_cells,
    majority_labels,
    normalise_rows,
    rows_by_coverage,
    to_device,
)
from podd_plugin.options import PoddlOptions
from podd_plugin.poster_layout import on_every_canvas
from podd_plugin.poster_size import even_starts, round_half_even

LEAST_REST = 1e-9  # of a label, beside its largest share: gradients below that vanish in Adam


class Poddl(Labeler):
    """Soft labels for any box on any layout; on one image per canvas, one label per image.

    Learned: every cell has a row of K numbers, at first one-hot; a label is the mean of the rows
    under the box, weighted by area or a power of it, or of the nearest alone, divided by its sum;
    or the softmax of that mean over a temperature. Fixed: the class that covers most of the box;
    classes that tie share it equally.

    Args:
        options: settings.
        placement: where cells and classes are.

    Raises:
        InputError: fixed labels leave a class without a training image, a softmax starts too
            close to one-hot to learn, or the options do not fit the layout.

    Source: Shul et al. 2024 (arXiv:2403.12040), section 4.3. The paper builds a map of labels of
        the poster's size; multiplying areas by rows gives the same without it.
    """

    def __init__(self, options: PoddlOptions, *, placement: Placement) -> None:
        super().__init__()
        self.rows: nn.Parameter | None = None
        self._softmax = options.constraint == "softmax"
        self._temperature = options.temperature
        items = placement.layout.items
        if options.mode == "fixed":
            regions = placement
            if options.regions == "areas":
                regions = Placement(_with_areas(placement.layout), placement.class_grid)
            check_touched(regions, labeler="poddl")
            self._table = ItemTable(
                lambda boxes: rows_by_coverage(boxes, regions, majority_labels), items
            )
            check_every_class(
                self._table.rows,
                labeler="poddl",
                next="use more patches, or -o labeler.mode=learned.",
            )
            return
        cells, start = _label_cells(placement, options.grid)
        self.rows = nn.Parameter(start * options.start)
        layout = placement.layout
        nearest = options.pooling == "nearest" or (
            options.pooling is None and options.power == 1 and _all_nearest(cells, layout)
        )
        self._cells = _by_canvas(cells, layout.num_canvases)

        def pool(boxes: Boxes) -> Tensor:
            if nearest:
                return _nearest_weights(boxes, cells, layout)
            return _to_power(_area_weights(boxes, cells, layout), options.power)

        self._table = ItemTable(pool, items)
        if self._softmax and placement.num_classes > 1:
            self._check_start(items)

    @torch.no_grad()
    def _check_start(self, items: Boxes) -> None:
        """Refuse a start whose softmax is so close to one-hot that hardly a label could learn."""
        largest = self.labels(items, torch.zeros(len(items), 1, 1, 1).double()).max(1).values
        if float((1 - largest).median()) < LEAST_REST:
            raise InputError(
                "labels start so sharp that no update changes them: most of them give all other "
                f"classes less than {LEAST_REST:g} together.",
                expected="labeler.start of at most some 20 times labeler.temperature.",
                next="raise -o labeler.temperature, lower -o labeler.start, or leave both out.",
            )

    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        """Return soft labels (n, K)."""
        weights = to_device(self._table.at(boxes).to(images.dtype), images.device)
        if self.rows is None:
            return weights
        rows = self.rows.to(images)
        if len(self._cells) == 1:
            pooled = weights @ rows
        else:
            under = to_device(self._cells[boxes.canvas], images.device)
            pooled = (weights[:, None] @ rows[under])[:, 0]
        if self._softmax:
            return (pooled / self._temperature).softmax(1)
        return normalise_rows(pooled)

    def project(self) -> None:
        """Clip the learned rows at 0, unless a softmax makes labels of them."""
        if self.rows is not None and not self._softmax:
            self.rows.data.clamp_(min=0)


def _label_cells(placement: Placement, grid: tuple[int, int] | None) -> tuple[Boxes, Tensor]:
    """Boxes of the label cells, and their rows (m, K) at the start, one-hot."""
    layout = placement.layout
    if grid is None:
        cells, classes = layout.cells, placement.cell_class
    else:
        if grid[0] > layout.canvas_hw[0] or grid[1] > layout.canvas_hw[1]:
            raise InputError(
                f"a label grid of {grid[0]}x{grid[1]} does not fit on "
                f"{layout.canvas_hw[0]}x{layout.canvas_hw[1]} pixels.",
                expected="at least one pixel for each label on each side.",
                next="correct -o labeler.grid=ROWSxCOLS, or leave it out.",
            )
        cells = on_every_canvas(grid_cells(layout.canvas_hw, grid), layout.num_canvases)
        # Where slots tie, the first in reading order wins, as argmax returns the first.
        slots = class_coverage(cells, placement)[:, placement.class_grid.reshape(-1)].argmax(1)
        classes = placement.class_grid.reshape(-1)[slots]
    return cells, nn.functional.one_hot(classes, placement.num_classes).float()


def _by_canvas(cells: Boxes, num_canvases: int) -> Tensor:
    """(canvases, p) numbers of the cells on each canvas; 0 where a canvas has fewer than others."""
    table = torch.zeros(num_canvases, _most(cells), dtype=torch.int64)
    table[cells.canvas, _places(cells)] = torch.arange(len(cells))
    return table


def _places(cells: Boxes) -> Tensor:
    """(m,) which of the cells on its canvas each is."""
    order = torch.argsort(cells.canvas, stable=True)
    first = torch.searchsorted(cells.canvas[order], cells.canvas[order])
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order)) - first
    return places


def _most(cells: Boxes) -> int:
    """Most cells on a canvas, p."""
    return int(torch.bincount(cells.canvas).max())


def _area_weights(boxes: Boxes, cells: Boxes, layout: Layout) -> Tensor:
    """(n, p) float64 share of each box that lies in each of the p cells on its canvas.

    With all cells a table of many canvases would grow with their square.
    """
    most = _most(cells)
    # A class for each place on a canvas: coverage of classes is then that of cells.
    alone = replace(layout, cells=cells, cell_slot=_places(cells), grid_shape=(1, most))
    area = class_coverage(boxes, Placement(alone, torch.arange(most)[None])).double()
    height, width = boxes.hw
    return area / (height * width)


def _to_power(weights: Tensor, power: float) -> Tensor:
    """(n, p) weights to a power, with the same sum in each row.

    Relative to a row's largest, so that no power makes all of them 0.
    """
    if power == 1:
        return weights
    largest = weights.amax(1, keepdim=True)
    powers = (weights / largest.clamp(min=torch.finfo(weights.dtype).tiny)) ** power
    return powers * (weights.sum(1, keepdim=True) / powers.sum(1, keepdim=True).clamp(min=1))


def _nearest_weights(boxes: Boxes, cells: Boxes, layout: Layout) -> Tensor:
    """(n, p) float64: 1 / number for each of the cells nearest to a box, of the p on its canvas.

    The published code slides a window of as many whole cells as a patch is long (at least one)
    over the label grid, in step with the patches.
    """
    grid = _regular_grid(cells, layout)
    axes = []
    for axis in (0, 1):
        side, count, length = layout.canvas_hw[axis], grid[axis], boxes.hw[axis]
        window = min(max(1, length * count // side), count)
        # Cyclic patches start all around the side; others leave their own length free.
        slots, room = (count, side) if layout.wraps else (count - window, max(side - length, 1))
        starts = torch.tensor(
            [round_half_even(start * slots, room) for start in boxes.yxyx[:, axis].tolist()]
        )
        chosen = (starts[:, None] + torch.arange(window)) % count
        axes.append(nn.functional.one_hot(chosen, count).sum(1).double() / window)
    return (axes[0][:, :, None] * axes[1][:, None, :]).reshape(len(boxes), -1)


def _all_nearest(cells: Boxes, layout: Layout) -> bool:
    """Say whether cells are a regular grid, and each is among the nearest to some patch."""
    if _grid_of(cells, layout) is None:
        return False
    weights = _nearest_weights(layout.items, cells, layout)
    total = torch.zeros(layout.num_canvases, weights.shape[1], dtype=weights.dtype)
    return bool(total.index_add_(0, layout.items.canvas, weights).all())


def _with_areas(layout: Layout) -> Layout:
    """Replace each cell by an area of an item's size, spread evenly as patches are."""
    (height, width), (h, w) = layout.canvas_hw, layout.items.hw
    rows, cols = _regular_grid(layout.cells, layout)
    places = [
        [y, x, y + h, x + w]
        for y in even_starts(height, h, rows)
        for x in even_starts(width, w, cols)
    ]
    return replace(layout, cells=on_every_canvas(torch.tensor(places), layout.num_canvases))


def _grid_of(cells: Boxes, layout: Layout) -> tuple[int, int] | None:
    """Rows and columns of the cells, if they tile every canvas alike and in reading order."""
    rows = len(torch.unique(cells.yxyx[:, 0]))
    cols = len(torch.unique(cells.yxyx[:, 1]))
    expected = on_every_canvas(grid_cells(layout.canvas_hw, (rows, cols)), layout.num_canvases)
    same = torch.equal(cells.canvas, expected.canvas) and torch.equal(cells.yxyx, expected.yxyx)
    return (rows, cols) if same else None


def _regular_grid(cells: Boxes, layout: Layout) -> tuple[int, int]:
    """Rows and columns of the cells on each canvas.

    Raises:
        InputError: they are not a grid that tiles every canvas in reading order.
    """
    grid = _grid_of(cells, layout)
    if grid is None:
        raise InputError(
            "labeler.pooling = nearest and labeler.regions = areas need cells on a regular grid.",
            expected="cells that tile every canvas, as those of a poster or of images do.",
            next="use -o labeler.pooling=area -o labeler.regions=cells, or give "
            "-o labeler.grid=ROWSxCOLS with -o labeler.pooling=nearest.",
        )
    return grid
