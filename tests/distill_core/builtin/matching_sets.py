"""Real data, synthetic datasets and slopes for the tests of the matching methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.builtin.labelers.onehot import Onehot
from distill_core.builtin.representations.images import Images, ImagesOptions
from distill_core.contracts.algorithm import Task
from distill_core.contracts.components import Representation
from distill_core.contracts.data import RealData, Split
from distill_core.contracts.geometry import Placement
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import seeded
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.testing.small import small_data
from podd_plugin.poddl import Poddl, PoddlOptions
from podd_plugin.poster import Poster, PosterOptions
from registry import Options, check_options

SMOOTH = ConvNetOptions(width=4, activation="softplus")


def real_data() -> RealData:
    """Six classes of 3x8x8 in float64, of 12 images each but for the last, which has 5."""
    real = small_data()
    images, labels = real.train.images.double(), real.train.labels
    last = (labels == 5).nonzero().flatten()
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[last[5:]] = False
    return replace(real, train=Split(images[keep], labels[keep]))


def task(real: RealData, backbone: ConvNetOptions = SMOOTH, engine: Engine | None = None) -> Task:
    def make() -> ConvNet:
        return ConvNet(backbone, spec=real.spec).double()

    def fresh(generator: Generator) -> Backbone:
        return new_backbone(make, generator, torch.device("cpu"))

    return Task(real, fresh, engine or Engine())


def join(
    real: RealData, representation: Representation, labeler: Callable[[Placement], nn.Module]
) -> SyntheticDataset:
    layout = representation.layout
    order = torch.arange(real.spec.num_classes).flip(0).reshape(layout.grid_shape)
    placement = Placement(layout, order)
    representation.reset(placement, real, generator=seeded(0, "init"))
    made: Any = labeler(placement)
    return SyntheticDataset(representation, made, placement=placement, spec=real.spec).double()


def images_set(real: RealData, *, ipc: int = 2) -> SyntheticDataset:
    """Whole images with one-hot labels."""
    images = Images(ImagesOptions(), spec=real.spec, ipc=ipc)
    return join(real, images, lambda placement: Onehot(Options(), placement=placement))


def poster_set(real: RealData, mode: str = "fixed") -> SyntheticDataset:
    """A poster; "soft" labels are learned, and perturbed so that no two are alike."""
    settings = {"patches": "3x4", "init": "paper"}
    poster = Poster(check_options(PosterOptions, settings, where="repr"), spec=real.spec, ipc=1)
    learned = "fixed" if mode == "fixed" else "learned"
    options = check_options(PoddlOptions, {"mode": learned}, where="labeler")
    made = join(real, poster, lambda placement: Poddl(options, placement=placement))
    with torch.no_grad():
        for parameter in made.labeler.parameters():
            parameter.add_(0.3 * torch.rand(parameter.shape, generator=seeded(0, "labels")))
    made.project()
    return made


def slopes(
    parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor], loss: Callable[[], float]
) -> tuple[float, float]:
    """Slope along a random direction, by the gradients and by central differences."""
    generator, size = seeded(0, "direction"), 1e-6
    along = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, along, strict=True))
    values = []
    for move in (size, -2 * size, size):
        for parameter, direction in zip(parameters, along, strict=True):
            parameter.data.add_(move * direction)
        values.append(loss())
    return slope, (values[0] - values[1]) / (2 * size)


def gradients(synthetic: SyntheticDataset, group: str = "data") -> list[Tensor]:
    return [p.grad.clone() for p in synthetic.groups()[group] if p.grad is not None]
