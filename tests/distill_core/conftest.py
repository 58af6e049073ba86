"""Synthetic sets of every geometry, small enough for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from distill_core.contracts.components import Representation
from distill_core.contracts.data import RealData
from distill_core.contracts.gather import gather_boxes
from distill_core.contracts.geometry import Boxes, Layout, Placement
from distill_core.contracts.streams import seeded
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.testing.small import TinyLabels
from tests.caches import make_cache


class Pixels(Representation):
    """Canvases of any layout, stored as they are; boxes of half size are enlarged."""

    def __init__(self, layout: Layout, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.layout = layout
        self.image_hw = image_shape[1:]
        shape = (layout.num_canvases, image_shape[0], *layout.canvas_hw)
        self.stored = nn.Parameter(torch.randn(shape, generator=seeded(0, "pixels")))

    def reset(self, placement: Placement, real: RealData, *, generator: torch.Generator) -> None:
        self.stored.data.normal_(generator=generator)

    def expand(self, boxes: Boxes) -> torch.Tensor:
        cut = gather_boxes(self.stored, boxes)
        if boxes.hw == self.image_hw:
            return cut
        return functional.interpolate(cut, self.image_hw, mode="bilinear")

    def canvases(self) -> torch.Tensor:
        return self.stored


MakeSynthetic = Callable[[RealData, Layout], SyntheticDataset]


@pytest.fixture
def make_synthetic() -> MakeSynthetic:
    """Join a layout's pixels with learned labels; class grid in reverse order."""

    def make(real: RealData, layout: Layout) -> SyntheticDataset:
        order = torch.arange(real.spec.num_classes).flip(0).reshape(layout.grid_shape)
        placement = Placement(layout, order)
        labeler = _ItemLabels(len(layout.items), placement)
        representation = Pixels(layout, real.spec.image_shape)
        return SyntheticDataset(representation, labeler, placement=placement, spec=real.spec)

    return make


class _ItemLabels(TinyLabels):
    """A row of its own for every item."""

    def __init__(self, count: int, placement: Placement) -> None:
        super().__init__(placement=placement, learned=True)
        generator = seeded(0, "rows")
        self.rows = nn.Parameter(
            torch.rand(count, placement.num_classes, generator=generator) + 0.01
        )

    def labels(self, boxes: Boxes, images: torch.Tensor) -> torch.Tensor:
        rows = self.rows[boxes.item.to(self.rows.device)]
        return (rows / rows.sum(1, keepdim=True)).to(images)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's cache out of tests."""
    path = make_cache(tmp_path_factory.mktemp("cache"))
    monkeypatch.setenv("DISTILL_CACHE", str(path))
    return path
