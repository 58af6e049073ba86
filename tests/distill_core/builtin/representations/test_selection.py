"""Choosing real images, against loops that try every candidate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill_core.builtin.representations.selection import (
    fit,
    herding,
    k_center,
    most_forgotten,
)
from distill_core.contracts.data import Split
from distill_core.contracts.streams import seeded


def features(seed: int, n: int = 9, d: int = 4) -> torch.Tensor:
    return torch.randn(n, d, generator=seeded(seed, "features"), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(5))
def test_herding_tries_every_image_for_the_next(seed: int) -> None:
    points = features(seed)
    chosen: list[int] = []
    for _ in range(6):
        rest = [i for i in range(len(points)) if i not in chosen]
        off = [float((points.mean(0) - points[[*chosen, i]].mean(0)).norm()) for i in rest]
        chosen.append(rest[off.index(min(off))])
    assert herding(points, 6).tolist() == chosen


@pytest.mark.parametrize("seed", range(5))
def test_k_center_takes_the_farthest(seed: int) -> None:
    points = features(seed)
    to_mean = [float((p - points.mean(0)).norm()) for p in points]
    chosen = [to_mean.index(min(to_mean))]
    for _ in range(5):
        gaps = [min(float((p - points[c]).norm()) for c in chosen) for p in points]
        chosen.append(gaps.index(max(gaps)))
    assert k_center(points, 6).tolist() == chosen


def test_one_image_is_the_one_nearest_the_mean_for_both() -> None:
    points = features(7)
    assert torch.equal(herding(points, 1), k_center(points, 1))


@pytest.mark.parametrize("choose", [herding, k_center])
def test_equal_images_are_all_chosen_once(choose) -> None:
    points = torch.ones(4, 3)
    assert sorted(choose(points, 4).tolist()) == [0, 1, 2, 3]


def test_the_most_forgotten_come_first_and_ties_are_drawn() -> None:
    counts = torch.tensor([0.0, 3.0, torch.inf, 1.0, 0.0, 0.0])
    chosen = most_forgotten(counts, 4, generator=seeded(0, "ties")).tolist()
    assert chosen[:3] == [2, 1, 3]
    last = {int(most_forgotten(counts, 4, generator=seeded(s, "ties"))[3]) for s in range(20)}
    assert last == {0, 4, 5}


class Scripted(nn.Module):
    """Is right about image i in pass e where `right[e][i]`; the images are their own numbers."""

    def __init__(self, right: list[list[int]]) -> None:
        super().__init__()
        self.right, self.passes = torch.tensor(right), 0
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        right = self.right[self.passes][images.flatten().long()]
        self.passes += 1
        return self.scale * nn.functional.one_hot(1 - right, 2).float()  # the label is always 0


def test_forgetting_counts_from_right_to_wrong() -> None:
    passes = [[1, 0, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0]]
    split = Split(torch.arange(4.0).reshape(4, 1, 1, 1), torch.zeros(4, dtype=torch.int64))
    counts = fit(Scripted(passes), split, epochs=4, generator=seeded(0, "order"))
    assert counts.tolist() == [2.0, torch.inf, 0.0, 1.0]
