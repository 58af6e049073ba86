"""Search for a class grid whose neighbours are close: quadratic assignment and swap descent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from distill_core.layout.ordering import neighbour_distance


def arrange(
    distances: Tensor,
    grid_shape: tuple[int, int],
    *,
    generator: Generator,
    restarts: int = 10,
    starts: Sequence[Tensor] = (),
) -> Tensor:
    """Place classes on a grid so that the sum of the distances between neighbours is small.

    `swap_descent` refines every candidate, and the best is returned: it is never worse than any of
    `starts`.

    Args:
        distances: (K, K) float64, symmetric, zero on the diagonal.
        grid_shape: rows and columns, K places.
        generator: seeds the random starts.
        restarts: number of candidates from SciPy's `quadratic_assignment` (fast approximate
            quadratic assignment from a random start).
        starts: further class grids to refine, for example a greedy one.

    Returns:
        (rows, cols) int64 class grid.
    """
    num_classes = len(distances)
    candidates = [*starts, torch.arange(num_classes).reshape(grid_shape)]
    if num_classes > 2:
        candidates += _assignments(distances, grid_shape, generator, restarts)
    refined = [swap_descent(candidate, distances) for candidate in candidates]
    return min(refined, key=lambda grid: neighbour_distance(grid, distances))


def swap_descent(class_grid: Tensor, distances: Tensor) -> Tensor:
    """Make the best swap of two classes again and again, until no swap improves the grid.

    Args:
        class_grid: (rows, cols) the start.
        distances: (K, K) float64, symmetric, zero on the diagonal.

    Returns:
        (rows, cols) class grid that no swap of two classes improves.
    """
    shape = (class_grid.shape[0], class_grid.shape[1])
    adjacency = grid_adjacency(shape).to(distances)
    order = class_grid.reshape(-1).clone()
    smallest_gain = 1e-12 * float(distances.abs().max()) if distances.numel() else 0.0
    while True:
        gain = _swap_gains(order, shape, distances, adjacency)
        best = int(gain.argmax())
        if float(gain.reshape(-1)[best]) <= smallest_gain:
            return order.reshape(shape)
        first, second = divmod(best, len(order))
        order[[first, second]] = order[[second, first]]


def grid_adjacency(grid_shape: tuple[int, int]) -> Tensor:
    """(places, places) int64: 1 where two places of a grid, in reading order, are neighbours."""
    row, col = torch.meshgrid(*map(torch.arange, grid_shape), indexing="ij")
    row, col = row.reshape(-1), col.reshape(-1)
    steps = (row[:, None] - row).abs() + (col[:, None] - col).abs()
    return (steps == 1).long()


def _swap_gains(
    order: Tensor, shape: tuple[int, int], distances: Tensor, adjacency: Tensor
) -> Tensor:
    """(K, K) decrease of the neighbour distance if the classes at two places are swapped."""
    # cost[p, c]: distances from class c to the classes around place p.
    field = distances[order].reshape(*shape, -1)
    around = pad(field[1:], (0, 0, 0, 0, 0, 1)) + pad(field[:-1], (0, 0, 0, 0, 1, 0))
    around += pad(field[:, 1:], (0, 0, 0, 1)) + pad(field[:, :-1], (0, 0, 1, 0))
    cost = around.reshape(len(order), -1)[:, order]
    stays = cost.diagonal()[:, None] + cost.diagonal()[None, :]
    # If the two are neighbours, the distance between them does not change.
    between = 2 * adjacency * distances[order][:, order]
    return stays - cost - cost.T - between


def _assignments(
    distances: Tensor, grid_shape: tuple[int, int], generator: Generator, restarts: int
) -> list[Tensor]:
    import numpy
    from scipy.optimize import quadratic_assignment

    seed = int(torch.randint(2**62, (), generator=generator))
    rng = numpy.random.default_rng(seed)
    adjacency = grid_adjacency(grid_shape).double().numpy()
    solutions = [
        quadratic_assignment(
            adjacency, distances.numpy(), method="faq", options={"rng": rng, "P0": "randomized"}
        ).col_ind
        for _ in range(restarts)
    ]
    return [torch.from_numpy(solution).long().reshape(grid_shape) for solution in solutions]
