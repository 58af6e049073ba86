"""Choosing real images of one class, from features or from how they were learned.

Sources: herding, Welling 2009; k-center, Sener and Savarese 2018 (arXiv:1708.00489); forgetting,
Toneva et al. 2019 (arXiv:1812.05159). A class is chosen from on its own, as in all tables of
dataset distillation.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from distill_core.builtin.representations.class_parts import Rows
from distill_core.plugin import Split

RATE, MOMENTUM, WEIGHT_DECAY, BATCH = 0.01, 0.9, 5e-4, 128


def herding(rows: Rows, count: int) -> Tensor:
    """Choose images so that the mean of the chosen ones stays as near the mean of all as it can.

    Args:
        rows: features of n images of one class.
        count: how many, at most n.

    Returns:
        (count,) numbers of images, in the order of the choice.
    """
    mean = rows.mean()
    squares = rows.each(lambda part: part.square().sum(1))
    total = torch.zeros_like(mean)
    free = torch.ones(len(rows), dtype=torch.bool, device=mean.device)
    chosen = []
    for size in range(1, count + 1):
        # |mean - (total + f) / size|^2, times size^2, without what is the same for all f
        distances = squares - 2 * _along(rows, size * mean - total)
        best = int(torch.where(free, distances, torch.inf).argmin())
        chosen.append(best)
        free[best] = False
        total = total + rows[best]
    return torch.tensor(chosen)


def k_center(rows: Rows, count: int) -> Tensor:
    """Choose the image nearest the mean, then each time the one farthest from all chosen.

    Args:
        rows: features of n images of one class.
        count: how many, at most n.

    Returns:
        (count,) numbers of images, in the order of the choice.
    """
    distances = _squared_distances(rows, rows.mean())
    chosen = [int(distances.argmin())]
    nearest = torch.full_like(distances, torch.inf)
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, _squared_distances(rows, rows[chosen[-1]]))
        nearest[chosen[-1]] = -1.0  # equal images are all chosen before one comes twice
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


def _along(rows: Rows, direction: Tensor) -> Tensor:
    return rows.each(lambda part: part @ direction)


def _squared_distances(rows: Rows, point: Tensor) -> Tensor:
    return rows.each(lambda part: (part - point).square().sum(1))


def most_forgotten(counts: Tensor, count: int, *, generator: Generator) -> Tensor:
    """Choose the images that were forgotten most often; ties are broken at random.

    Args:
        counts: (n,) from `fit` of one class.
        count: how many, at most n.
        generator: the source of randomness.
    """
    shuffled = torch.randperm(len(counts), generator=generator)
    order = counts.cpu()[shuffled].argsort(descending=True, stable=True)
    return shuffled[order[:count]]


@torch.enable_grad()
def fit(network: nn.Module, split: Split, *, epochs: int, generator: Generator) -> Tensor:
    """Train a classifier in place, and count how often it forgot every image.

    An image is forgotten when it was classified right when last trained on, and is not now.

    Args:
        network: gives K logits, on the device of the images, in training mode.
        split: the real images.
        epochs: shuffled passes.
        generator: the source of the order, on the CPU.

    Returns:
        (N,) float on the CPU; infinite for images that were never right.
    """
    optimizer = torch.optim.SGD(
        network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    device = split.labels.device
    was_right = torch.zeros(len(split), dtype=torch.bool, device=device)
    ever_right, counts = was_right.clone(), torch.zeros(len(split), device=device)
    for _ in range(epochs):
        order = torch.randperm(len(split), generator=generator).to(device)
        for index in torch.split(order, BATCH):
            logits, labels = network(split.take(index)), split.labels[index]
            right = logits.detach().argmax(1) == labels
            counts[index] += was_right[index] & ~right
            was_right[index] = right
            ever_right[index] |= right
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return torch.where(ever_right, counts, torch.inf).cpu()
