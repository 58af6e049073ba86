"""Class orders compared by the paper's score, beside random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import torch
from torch import Generator, Tensor

from distill_core.contracts.data import RealData
from distill_core.layout.class_order import ClassOrder
from distill_core.layout.ordering import (
    class_means,
    cosine_distances,
    neighbour_distance,
    ordering_score,
)

RANDOM_ORDERS = 100


@dataclass(frozen=True)
class OrderScore:
    """How good an order is; higher scores are better.

    Attributes:
        order: the orderer's name, or what else was compared.
        score: by the distances of the first orderer.
        neighbour_distance: the sum whose inverse is `score`.
        on_images: the score by the cosine distances of class-mean images.
    """

    order: str
    score: float
    neighbour_distance: float
    on_images: float

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, which has no infinity: null if no two neighbours differ."""
        return {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in vars(self).items()
        }


def compare_orders(
    orders: Sequence[ClassOrder], real: RealData, generator: Generator
) -> list[OrderScore]:
    """Measure all orders by the same distances, those of the first one, best order first.

    If the first orderer gives no distances, those of class-mean images are used. Two lines at the
    end are for random orders: the best of 100, and their mean.
    """
    images = cosine_distances(class_means(real))
    ruler = images if orders[0].distances is None else orders[0].distances
    scores = [_score(order.orderer, order.grid, ruler, images) for order in orders]
    scores.sort(key=lambda score: score.neighbour_distance)
    num_classes, shape = real.spec.num_classes, orders[0].grid.shape
    drawn = [
        _score("", torch.randperm(num_classes, generator=generator).reshape(shape), ruler, images)
        for _ in range(RANDOM_ORDERS)
    ]
    columns = zip(*((s.score, s.neighbour_distance, s.on_images) for s in drawn), strict=True)
    mean = OrderScore(
        f"random, mean of {RANDOM_ORDERS}", *(sum(c) / RANDOM_ORDERS for c in columns)
    )
    best = min(drawn, key=lambda score: score.neighbour_distance)
    named = replace(best, order=f"random, best of {RANDOM_ORDERS}")
    return [*scores, named, mean]


def _score(order: str, grid: Tensor, ruler: Tensor, images: Tensor) -> OrderScore:
    return OrderScore(
        order,
        ordering_score(grid, ruler),
        neighbour_distance(grid, ruler),
        ordering_score(grid, images),
    )
