"""Choosing real images, against loops that try every candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
import torch
from torch import nn

from distill_core.builtin.representations import class_parts
from distill_core.builtin.representations.class_parts import Rows
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


@pytest.fixture(params=[2**26, 12, 1], ids=["whole", "three", "single"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rows]:
    """Makes rows that are gone through all at once, three at a time, or one by one."""
    monkeypatch.setattr(class_parts, "MOST_NUMBERS", request.param)
    return lambda points: Rows(
        torch.arange(len(points)), points.shape[1], lambda parts: (points[part] for part in parts)
    )


@pytest.mark.parametrize("seed", range(5))
def test_herding_tries_every_image_for_the_next(seed: int, rows) -> None:
    points = features(seed)
    chosen: list[int] = []
    for _ in range(6):
        rest = [i for i in range(len(points)) if i not in chosen]
        off = [float((points.mean(0) - points[[*chosen, i]].mean(0)).norm()) for i in rest]
        chosen.append(rest[off.index(min(off))])
    assert herding(rows(points), 6).tolist() == chosen


@pytest.mark.parametrize("seed", range(5))
def test_k_center_takes_the_farthest(seed: int, rows) -> None:
    points = features(seed)
    to_mean = [float((p - points.mean(0)).norm()) for p in points]
    chosen = [to_mean.index(min(to_mean))]
    for _ in range(5):
        gaps = [min(float((p - points[c]).norm()) for c in chosen) for p in points]
        chosen.append(gaps.index(max(gaps)))
    assert k_center(rows(points), 6).tolist() == chosen


def test_one_image_is_the_one_nearest_the_mean_for_both(rows) -> None:
    points = features(7)
    nearest = (points - points.mean(0)).norm(dim=1).argmin().item()
    assert herding(rows(points), 1).tolist() == k_center(rows(points), 1).tolist() == [nearest]


@pytest.mark.parametrize("choose", [herding, k_center])
def test_equal_images_are_all_chosen_once(choose, rows) -> None:
    points = torch.ones(4, 3)
    assert sorted(choose(rows(points), 4).tolist()) == [0, 1, 2, 3]


def test_rows_of_one_part_are_read_once_and_more_are_never_together(monkeypatch) -> None:
    asked: list[int] = []

    def read(parts: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        for part in parts:
            asked.append(len(part))
            yield part[:, None].float()

    k_center(Rows(torch.arange(7), 1, read), 5)
    assert asked == [7]
    asked.clear()
    monkeypatch.setattr(class_parts, "MOST_NUMBERS", 3)
    k_center(Rows(torch.arange(7), 1, read), 2)
    assert max(asked) == 3


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
