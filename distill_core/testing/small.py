"""Small stand-ins that the checks run components on: data, placements, a network, images, labels.

Written for these checks alone, so that a component is never judged by the faults of another.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from distill_core.config.sections import DataOptions
from distill_core.contracts.algorithm import Task
from distill_core.contracts.components import Labeler, Representation
from distill_core.contracts.data import AUGMENTATIONS, DataSpec, RawData, RealData, Split
from distill_core.contracts.gather import gather_boxes
from distill_core.contracts.geometry import (
    Boxes,
    Layout,
    Placement,
    grid_cells,
)
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import seeded
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.contracts.transfer import to_device
from distill_core.data.prepare import prepare
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.testing.assertions import demand
from distill_core.training.expert_cache import Experts

# The class names of CIFAR-10, out of order: an orderer may know words.
NAMES = ("ship", "cat", "truck", "bird", "frog", "airplane", "dog", "deer", "horse", "automobile")


class SealedSplit(Split):
    """The test images, which remember that somebody looked at them."""

    looked_at = False

    def __getattribute__(self, name: str) -> Any:
        if name in ("images", "labels"):  # every method needs one of them
            object.__setattr__(self, "looked_at", True)
        return super().__getattribute__(name)


def demand_unseen(who: str, real: RealData) -> None:
    """Demand that nobody has looked at the test images of `small_data`."""
    assert isinstance(real.test, SealedSplit)
    demand(
        not real.test.looked_at,
        who,
        "looks at real.test; test images are for judging alone, so use real.train, and "
        "real.validation to select",
    )


def small_data(num_classes: int = 6, *, channels: int = 3, size: int = 8) -> RealData:
    """Make real data: a smooth pattern for each class, with noise; the same in every call.

    `demand_unseen` says whether its test images were looked at.
    """
    names = tuple(
        NAMES[k % len(NAMES)] + ("" if k < len(NAMES) else str(k)) for k in range(num_classes)
    )
    spec = DataSpec("small", names, (channels, size, size), AUGMENTATIONS)
    generator = seeded(0, "small data", num_classes, channels, size)
    coarse = torch.rand(num_classes, channels, 2, 2, generator=generator)
    patterns = nn.functional.interpolate(coarse, (size, size), mode="bilinear")

    def part(per_class: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(num_classes).repeat(per_class)
        noise = 0.15 * torch.randn(len(labels), channels, size, size, generator=generator)
        images = (255 * (patterns[labels] + noise)).clamp(0, 255).to(torch.uint8)
        return images, labels

    raw = RawData(spec, *part(12), *part(2))
    real = prepare(raw, DataOptions(), seed=0, device=torch.device("cpu"))
    return replace(real, test=SealedSplit(real.test.images, real.test.labels))


def image_layout(num_classes: int, *, ipc: int = 1, size: int = 8) -> Layout:
    """Whole images, `ipc` for each class: one item and one cell on a canvas."""
    count = num_classes * ipc
    boxes = Boxes.of(torch.arange(count), torch.tensor([[0, 0, size, size]] * count))
    slots = torch.arange(count) // ipc
    return Layout((size, size), count, boxes, boxes, slots, (1, num_classes))


def poster_layout(*, size: int = 8, wraps: bool = False) -> Layout:
    """One canvas with six cells and overlapping items; items may leave it where it wraps."""
    height, width = 2 * size + 4, 3 * size - 1
    last_y, last_x = (height, width) if wraps else (height - size + 1, width - size + 1)
    corners = [(y, x) for y in range(0, last_y, 3) for x in range(0, last_x, 5)]
    items = torch.tensor([[y, x, y + size, x + size] for y, x in corners])
    cells = grid_cells((height, width), (2, 3))
    return Layout(
        canvas_hw=(height, width),
        num_canvases=1,
        items=Boxes.of(torch.zeros(len(items)), items),
        cells=Boxes.of(torch.zeros(6), cells),
        cell_slot=torch.arange(6),
        grid_shape=(2, 3),
        wraps=wraps,
    )


def placements() -> dict[str, Placement]:
    """Return placements of six classes that every labeler should know what to do with."""
    layouts = {
        "one image per class": image_layout(6),
        "two images per class": image_layout(6, ipc=2),
        "a poster": poster_layout(),
        "a poster that wraps around": poster_layout(wraps=True),
    }
    return {
        name: Placement(layout, torch.tensor([3, 0, 5, 1, 4, 2]).reshape(layout.grid_shape))
        for name, layout in layouts.items()
    }


class TinyBackbone(Backbone):
    """A smooth network: one convolution, softplus, pooling, and a linear layer."""

    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__()
        channels, h, w = spec.image_shape
        self.convolution = nn.Conv2d(channels, 6, 3, padding=1)
        self.head = nn.Linear(6 * (h // 2) * (w // 2), spec.num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """Return features (n, d) of images (n, C, h, w)."""
        features = nn.functional.softplus(self.convolution(images))
        return nn.functional.avg_pool2d(features, 2).flatten(1)


class TinyImages(Representation):
    """One image for each class, stored as it is."""

    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__()
        self.layout = image_layout(spec.num_classes, size=spec.image_shape[1])
        generator = seeded(0, "tiny images")
        start = torch.randn(spec.num_classes, *spec.image_shape, generator=generator)
        self.pixels = nn.Parameter(start)

    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Set the starting pixels."""
        del placement, real
        with torch.no_grad():
            self.pixels.copy_(torch.randn(self.pixels.shape, generator=generator))

    def expand(self, boxes: Boxes) -> Tensor:
        """Return the images at `boxes`: (n, C, h, w)."""
        return gather_boxes(self.pixels, boxes)

    def canvases(self) -> Tensor:
        """Return every image."""
        return self.pixels


class TinyLabels(Labeler):
    """A row for each canvas, normalised; learned or fixed."""

    def __init__(self, *, placement: Placement, learned: bool) -> None:
        super().__init__()
        one_hot = torch.eye(placement.num_classes)[placement.cell_class]
        self.rows = nn.Parameter(0.8 * one_hot + 0.05, requires_grad=learned)

    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        """Return soft labels (n, K)."""
        rows = self.rows[to_device(boxes.canvas, self.rows.device)]
        return (rows / rows.sum(1, keepdim=True)).to(images)

    def project(self) -> None:
        """Clip at a small positive number, so that no row vanishes."""
        self.rows.data.clamp_(min=1e-3)


def small_task(real: RealData) -> Task:
    """Return a task of tiny networks, whose experts are kept in memory."""

    def fresh(generator: Generator) -> Backbone:
        return new_backbone(lambda: TinyBackbone(spec=real.spec), generator, torch.device("cpu"))

    experts = Experts(real, fresh, Engine(), backbone={"name": "tiny"}, seed=0, folder=None)
    return Task(real, fresh, Engine(), experts)


def small_synthetic(real: RealData, *, learned_labels: bool) -> SyntheticDataset:
    """Join tiny images and tiny labels; the same start in every call."""
    representation = TinyImages(spec=real.spec)
    layout = representation.layout
    placement = Placement(layout, torch.arange(real.spec.num_classes).reshape(layout.grid_shape))
    labeler = TinyLabels(placement=placement, learned=learned_labels)
    return SyntheticDataset(representation, labeler, placement=placement, spec=real.spec)
