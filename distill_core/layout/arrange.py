"""Search for a class grid whose neighbours are close: quadratic assignment and swap descent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from distill_core.layout.ordering import neighbour_distance

ALL = slice(None)


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
    cost = _costs(order, shape, distances)
    gain = _swap_gains(order, cost, distances, adjacency)
    while True:
        best = int(gain.argmax())
        if float(gain.reshape(-1)[best]) <= smallest_gain:
            return order.reshape(shape)
        swapped = list(divmod(best, len(order)))
        order[swapped] = order[swapped[::-1]]
        # Only costs beside the two places, and of the two classes anywhere, are others now.
        cost[:, swapped] = cost[:, swapped[::-1]]
        near = adjacency[swapped].any(0)
        near[swapped] = True
        some = near.nonzero().flatten()
        cost[some] = _costs(order, shape, distances, some)
        gain[some] = _swap_gains(order, cost, distances, adjacency, first=some)
        # Not the rows turned: they round otherwise, and of equal gains another would be the best.
        gain[:, some] = _swap_gains(order, cost, distances, adjacency, second=some)


def grid_adjacency(grid_shape: tuple[int, int]) -> Tensor:
    """(places, places) int64: 1 where two places of a grid, in reading order, are neighbours."""
    row, col = torch.meshgrid(*map(torch.arange, grid_shape), indexing="ij")
    row, col = row.reshape(-1), col.reshape(-1)
    steps = (row[:, None] - row).abs() + (col[:, None] - col).abs()
    return (steps == 1).long()


def _costs(
    order: Tensor, shape: tuple[int, int], distances: Tensor, places: Tensor | None = None
) -> Tensor:
    """(n, K): for n places (all by default), distances from the class at each place q to the
    classes around."""
    rows, cols = shape
    at = torch.full((rows + 2, cols + 2), -1)
    at[1:-1, 1:-1] = order.reshape(shape)
    places = torch.arange(len(order)) if places is None else places
    row, col = places // cols + 1, places % cols + 1
    # Distances to no class, with number -1, are zero.
    known = pad(distances, (0, 0, 0, 1))
    up, down, left, right = (
        known[at[row + dy, col + dx]] for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))
    )
    return ((down + up) + (right + left))[:, order]


def _swap_gains(
    order: Tensor,
    cost: Tensor,
    distances: Tensor,
    adjacency: Tensor,
    *,
    first: Tensor | slice = ALL,
    second: Tensor | slice = ALL,
) -> Tensor:
    """(n, m) decrease of the neighbour distance if the class at one of n places and that at one of
    m are swapped (all by default); `cost` is that of `_costs`, for all places."""
    own = cost.diagonal()
    # If the two are neighbours, the distance between them does not change.
    between = 2 * adjacency[first][:, second] * distances[order[first]][:, order[second]]
    stays = own[first][:, None] + own[second]
    return stays - cost[first][:, second] - cost[second][:, first].T - between


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
