"""Orderers `poco` (the paper's greedy one) and `qap`: similar classes become neighbours."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from distill_core.plugin import RealData, arrange, ordering_score
from podd_plugin.options import PocoOptions, QapOptions, Traversal
from podd_plugin.similarity import ClassDistances, class_distances

RESTARTS, MANY_CLASSES = 10, 200


class Poco:
    """Fills the grid place by place with the class nearest to the neighbours placed so far.

    Attributes:
        notes: which similarity was used and why, and the ordering score.
        distances: (K, K) between classes, once `order` has run.

    Source: Shul et al. 2024 (arXiv:2403.12040), Algorithm 2.
    """

    def __init__(self, options: PocoOptions) -> None:
        self.options = options
        self.notes: dict[str, str] = {}
        self.distances: Tensor | None = None

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        """Return the greedy class grid."""
        del generator
        found = class_distances(self.options, real)
        grid = greedy_grid(found.distances, grid_shape, self.options.traversal)
        self.notes, self.distances = _notes(found, grid), found.distances
        return grid


class Qap:
    """Minimises the distance between neighbours over the whole grid; never worse than PoCO.

    Attributes:
        notes: which similarity was used and why, and the ordering score.
        distances: (K, K) between classes, once `order` has run.
    """

    def __init__(self, options: QapOptions) -> None:
        self.options = options
        self.notes: dict[str, str] = {}
        self.distances: Tensor | None = None

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        """Return the best class grid found."""
        found = class_distances(self.options, real)
        grid = arrange(
            found.distances,
            grid_shape,
            generator=generator,
            restarts=restarts_for(grid_shape[0] * grid_shape[1], self.options.restarts),
            starts=[greedy_grid(found.distances, grid_shape, "zigzag")],
        )
        self.notes, self.distances = _notes(found, grid), found.distances
        return grid


def restarts_for(num_classes: int, asked: int | None = None) -> int:
    """Return the number of random starts: what was asked for, or about as much work for any number
    of classes, since a start costs the third power of it.

    >>> restarts_for(10), restarts_for(200), restarts_for(300), restarts_for(1000)
    (10, 10, 3, 1)
    """
    if asked is not None:
        return asked
    return max(1, round(RESTARTS * min(1.0, (MANY_CLASSES / num_classes) ** 3)))


def greedy_grid(distances: Tensor, grid_shape: tuple[int, int], traversal: Traversal) -> Tensor:
    """Place class 0 first, then always the class with the least distance to its neighbours.

    Args:
        distances: (K, K) between classes.
        grid_shape: rows and columns, K places.
        traversal: the order of places. Only neighbours that are placed already count; along
            diagonals these are the ones above and to the left, as in the paper.

    Returns:
        (rows, cols) int64 class grid; among equals the lowest class number comes first.
    """
    grid = torch.full(grid_shape, -1)
    left = torch.ones(len(distances), dtype=torch.bool)
    for row, col in places(grid_shape, traversal):
        beside = [(row - 1, col), (row, col - 1), (row + 1, col), (row, col + 1)]
        placed = [
            int(grid[r, c])
            for r, c in beside
            if 0 <= r < grid_shape[0] and 0 <= c < grid_shape[1] and grid[r, c] >= 0
        ]
        # The first place has no neighbours: all sums are 0, and the lowest number is class 0.
        total = distances[placed].sum(0).masked_fill(~left, torch.inf)
        chosen = int(total.argmin())
        grid[row, col] = chosen
        left[chosen] = False
    return grid


def places(grid_shape: tuple[int, int], traversal: Traversal) -> list[tuple[int, int]]:
    """List (row, column) of every place of a grid in the order of a traversal.

    >>> places((2, 3), "zigzag")
    [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (1, 2)]
    >>> places((2, 3), "diagonal")
    [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    """
    rows, cols = grid_shape
    if traversal in ("raster", "snake"):
        backwards = traversal == "snake"
        return [
            (row, cols - 1 - col if backwards and row % 2 else col)
            for row in range(rows)
            for col in range(cols)
        ]
    found = []
    for diagonal in range(rows + cols - 1):
        cells = [(row, diagonal - row) for row in range(rows) if 0 <= diagonal - row < cols]
        downwards = traversal == "zigzag" and diagonal % 2 == 1
        found += cells if downwards else cells[::-1]
    return found


def _notes(found: ClassDistances, grid: Tensor) -> dict[str, str]:
    return {
        "similarity": found.source,
        "similarity_reason": found.reason,
        "ordering_score": f"{ordering_score(grid, found.distances):.5g}",
    }
