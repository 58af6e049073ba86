"""What class orderers share: features of classes, distances, and the score of an order.

`arrange.py` searches for a good order; the orderer chooses the distances.
"""

from __future__ import annotations

from math import inf, isqrt, prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from distill_core.contracts.data import RealData, Split

MOST_NUMBERS = 2**28  # of the images of a class in memory at once; a gigabyte


def class_grid_shape(num_classes: int) -> tuple[int, int]:
    """Return the most square grid with one place per class, with no more rows than columns.

    >>> class_grid_shape(10), class_grid_shape(200), class_grid_shape(7)
    ((2, 5), (10, 20), (1, 7))
    """
    rows = next(side for side in range(isqrt(num_classes), 0, -1) if num_classes % side == 0)
    return rows, num_classes // rows


def class_means(real: RealData) -> Tensor:
    """Return the mean training image of every class, whitened: (K, C*h*w) float64 on the CPU."""
    numbers, labels = prod(real.spec.image_shape), real.train.labels
    means = torch.empty(real.spec.num_classes, numbers, dtype=torch.float64)
    for label in range(len(means)):
        members = (labels == label).nonzero().flatten()
        means[label] = _mean_image(real.train, members, numbers)
    return means


def _mean_image(split: Split, members: Tensor, numbers: int) -> Tensor:
    """The mean of the images `members` (n,) of so many numbers; of very many, a part at a time."""
    if len(members) * numbers <= MOST_NUMBERS:
        return split.take(members).flatten(1).mean(0)
    total = torch.zeros(numbers, dtype=torch.float64, device=split.device)
    for part in split.stream(torch.split(members, max(1, MOST_NUMBERS // numbers // 8))):
        total += part.flatten(1).double().sum(0)
    return (total / len(members)).float()


def class_features(real: RealData) -> Tensor:
    """Return class means minus their common mean: (K, C*h*w) float64 on the CPU.

    Without centring, all pairs of classes look alike, because they share the mean image.
    """
    means = class_means(real)
    return means - means.mean(0)


def cosine_distances(embeddings: Tensor) -> Tensor:
    """Return one minus the cosine between all pairs of rows.

    Args:
        embeddings: (K, d); a row of zeros has distance 1 to every other row.

    Returns:
        (K, K) float64, symmetric, 0 to 2, zero on the diagonal.

    Source: Shul et al. 2024 (arXiv:2403.12040), section 4.2.
    """
    rows = embeddings.detach().cpu().double()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    distances: Tensor = (1 - rows @ rows.T).clamp(0, 2)
    distances = (distances + distances.T) / 2
    distances.fill_diagonal_(0)
    return distances


def neighbour_distance(class_grid: Tensor, distances: Tensor) -> float:
    """Return the sum of distances over all pairs of neighbouring classes, vertical or horizontal.

    Args:
        class_grid: (rows, cols) class numbers.
        distances: (K, K), symmetric.
    """
    beside = distances[class_grid[:, :-1], class_grid[:, 1:]].sum()
    below = distances[class_grid[:-1], class_grid[1:]].sum()
    return float(beside + below)


def ordering_score(class_grid: Tensor, distances: Tensor) -> float:
    """Return the score of a class order, the inverse of `neighbour_distance`; higher is better.

    Returns:
        A positive number; infinite if all distances between neighbours are zero.

    Source: Shul et al. 2024 (arXiv:2403.12040), section 5.3, class order ablation.

    >>> ordering_score(torch.tensor([[0, 1]]), torch.tensor([[0.0, 0.5], [0.5, 0.0]]))
    2.0
    """
    total = neighbour_distance(class_grid, distances)
    return 1 / total if total > 0 else inf
