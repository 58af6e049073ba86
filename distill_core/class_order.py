"""Class orders: asking an orderer for one, and comparing several by the paper's score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Generator, Tensor

from distill_core.contracts import Orderer
from distill_core.data import RealData
from distill_core.geometry import check_class_grid
from distill_core.ordering import (
    class_means,
    cosine_distances,
    neighbour_distance,
    ordering_score,
)
from registry import Catalogue

RANDOM_ORDERS = 100
ON_IMAGES = "class-mean images"


@dataclass(frozen=True)
class ClassOrder:
    """What an orderer made of a dataset.

    Attributes:
        orderer: its name, or how the user called it.
        grid: (rows, cols) int64 class grid.
        notes: what it has to say, and its score on class-mean images.
        distances: (K, K) between classes, if the orderer tells which it went by.
    """

    orderer: str
    grid: Tensor
    notes: dict[str, str]
    distances: Tensor | None

    def names(self, class_names: Sequence[str]) -> list[list[str]]:
        """Return the class names, row by row."""
        return [[class_names[label] for label in row] for row in self.grid.tolist()]


@dataclass(frozen=True)
class Score:
    """How good an order is; higher scores are better.

    Attributes:
        order: the orderer's name, or what else was compared.
        score: by the distances of the first orderer.
        neighbour_distance: the sum that `score` is the inverse of.
        on_images: the score by the cosine distances of class-mean images.
    """

    order: str
    score: float
    neighbour_distance: float
    on_images: float

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, which has no infinity: null where no two neighbours differ."""
        return {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in vars(self).items()
        }


def order_classes(
    catalogue: Catalogue,
    name: str,
    options: Mapping[str, Any],
    real: RealData,
    *,
    grid_shape: tuple[int, int],
    generator: Generator,
) -> ClassOrder:
    """Ask an orderer for a class grid, and note how good it is by the paper's score.

    Raises:
        ExplainedError: it cannot, or its answer is no permutation of the classes.
    """
    orderer: Orderer = catalogue.create(name, options)
    grid = catalogue.attribute(name, orderer.order, real, grid_shape, generator=generator)
    grid = check_class_grid(grid, grid_shape)
    notes = dict(getattr(orderer, "notes", {}))
    score = ordering_score(grid, cosine_distances(class_means(real)))
    notes[f"ordering score on {ON_IMAGES}"] = f"{score:.6g}"
    return ClassOrder(name, grid, notes, getattr(orderer, "distances", None))


def compare_orders(
    orders: Sequence[ClassOrder], real: RealData, generator: Generator
) -> list[Score]:
    """Measure all orders by the same distances, those of the first one, best order first.

    Where the first orderer tells no distances, those of class-mean images are used. Two lines at
    the end say what random orders reach: the mean of 100, and the best of them.
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
    mean = Score(f"random, mean of {RANDOM_ORDERS}", *(sum(c) / RANDOM_ORDERS for c in columns))
    best = min(drawn, key=lambda score: score.neighbour_distance)
    named = Score(f"random, best of {RANDOM_ORDERS}", *list(vars(best).values())[1:])
    return [*scores, named, mean]


def _score(order: str, grid: Tensor, ruler: Tensor, images: Tensor) -> Score:
    return Score(
        order,
        ordering_score(grid, ruler),
        neighbour_distance(grid, ruler),
        ordering_score(grid, images),
    )
