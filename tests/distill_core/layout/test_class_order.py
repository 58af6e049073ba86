from __future__ import annotations

import pytest
import torch

from distill_core.commands.order_scores import OrderScore, compare_orders
from distill_core.layout.class_order import ClassOrder
from distill_core.layout.ordering import class_means, cosine_distances, ordering_score


def order(name, grid, distances=None):
    return ClassOrder(name, torch.tensor(grid), {}, distances)


LINE = (torch.arange(6.0)[:, None] - torch.arange(6.0)).abs().double()


def test_all_orders_are_measured_by_the_distances_of_the_first(make_real):
    real = make_real(6)
    worse = order("worse", [[0, 5, 1, 4, 2, 3]], 1 - torch.eye(6))
    found = compare_orders(
        [order("sorted", [[0, 1, 2, 3, 4, 5]], LINE), worse], real, torch.Generator()
    )
    assert [score.order for score in found[:2]] == ["sorted", "worse"]
    assert [score.neighbour_distance for score in found[:2]] == [5, 5 + 4 + 3 + 2 + 1]
    assert found[0].score == pytest.approx(1 / 5)
    images = cosine_distances(class_means(real))
    assert found[1].on_images == pytest.approx(ordering_score(worse.grid, images))


def test_the_best_comes_first_though_it_was_named_last(make_real):
    orders = [order("worse", [[0, 5, 1, 4, 2, 3]], LINE), order("sorted", [[0, 1, 2, 3, 4, 5]])]
    found = compare_orders(orders, make_real(6), torch.Generator())
    assert [score.order for score in found[:2]] == ["sorted", "worse"]


def test_an_order_without_distances_is_measured_on_images(make_real):
    found = compare_orders([order("mine", [[0, 1, 2], [3, 4, 5]])], make_real(6), torch.Generator())
    assert found[0].score == found[0].on_images


def test_random_orders_reach_what_they_should_on_average(make_real):
    """Of 5 neighbouring pairs each has the mean distance of two classes on a line, 7/3."""
    found = compare_orders([order("mine", [[0, 1, 2, 3, 4, 5]], LINE)], make_real(6),
                           torch.Generator().manual_seed(0))  # fmt: skip
    best, mean = found[-2:]
    assert mean.order == "random, mean of 100"
    assert mean.neighbour_distance == pytest.approx(5 * 7 / 3, rel=0.1)
    assert 5 <= best.neighbour_distance < mean.neighbour_distance
    assert best.score == pytest.approx(1 / best.neighbour_distance)


def test_json_has_no_infinity():
    found = OrderScore("one", float("inf"), 0.0, 1.0).as_dict()
    assert found == {"order": "one", "score": None, "neighbour_distance": 0.0, "on_images": 1.0}
