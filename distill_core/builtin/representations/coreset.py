"""Representation `coreset`: real images, chosen and kept; the baseline of every distillation.

It has no parameters, so that there is nothing to learn but labels. Below one image per class each
is stored smaller and scaled up for use; what is counted is what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from math import prod

import torch
from torch import Generator, Tensor

from distill_core.builtin.backbones.convnet import ConvNet
from distill_core.builtin.backbones.options import ConvNetOptions
from distill_core.builtin.representations.class_parts import Rows
from distill_core.builtin.representations.images import image_layout
from distill_core.builtin.representations.options import CoresetOptions
from distill_core.builtin.representations.selection import (
    BATCH,
    fit,
    herding,
    k_center,
    most_forgotten,
)
from distill_core.plugin import (
    Boxes,
    DataSpec,
    Placement,
    RealData,
    Representation,
    Whitening,
    enlarge,
    gather_boxes,
    new_backbone,
    real_budget,
    shrink,
)


class Coreset(Representation):
    """As many real images of every class as the budget buys, laid out as `images` does.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: budget in images per class; None for 1.
    """

    pixels: Tensor

    def __init__(
        self, options: CoresetOptions, *, spec: DataSpec, ipc: float | None = None
    ) -> None:
        super().__init__()
        self.options = options
        self.budget = real_budget(
            1 if ipc is None else ipc, spec.image_shape[1:], per_class=options.per_class
        )
        self.layout = image_layout(spec, self.budget.per_class)
        shape = (self.layout.num_canvases, spec.image_shape[0], *self.budget.stored_hw)
        self.register_buffer("pixels", torch.zeros(shape))
        self._whitening: Whitening | None = None

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Choose the images, as option `method` says."""
        classes = placement.cell_class
        chosen = self._choose(real, generator).flatten()
        # Rows are classes; the cells of a class follow each other.
        per_class = self.budget.per_class
        within = torch.arange(len(classes)) % per_class
        index = chosen[classes * per_class + within]
        images = real.train.take(index.to(real.train.device))
        self.use_whitening(real.whitening)
        if self._is_small:
            images = shrink(images, self.budget, real.whitening)
        self.pixels.copy_(images)

    def use_whitening(self, whitening: Whitening) -> None:
        """Take the whitening of the data: small images are scaled up before it."""
        self._whitening = whitening

    def expand(self, boxes: Boxes) -> Tensor:
        """Return the images at `boxes`: (n, C, h, w)."""
        return gather_boxes(self.canvases(), boxes)

    def canvases(self) -> Tensor:
        """Return all images: (n, C, h, w)."""
        if not self._is_small:
            return self.pixels
        if self._whitening is None:
            raise RuntimeError("images are stored smaller, and no whitening was given")
        return enlarge(self.pixels, self.budget, self._whitening).to(self.pixels)

    @property
    def _is_small(self) -> bool:
        return self.budget.stored_hw != self.budget.image_hw

    def _choose(self, real: RealData, generator: Generator) -> Tensor:
        """(K, per_class) numbers of training images; a small class gives some again."""
        labels, count = real.train.labels.cpu(), self.budget.per_class
        counts, network = None, None
        if self.options.method == "forgetting" or self.options.features == "network":
            network = self._network(real, generator)
            counts = fit(network, real.train, epochs=self.options.epochs, generator=generator)
            network.eval()
        rows = []
        for label in range(real.spec.num_classes):
            members = (labels == label).nonzero().flatten()
            size = min(count, len(members))
            if self.options.method == "random":
                picked = torch.randperm(len(members), generator=generator)[:size]
            elif self.options.method == "forgetting":
                assert counts is not None
                picked = most_forgotten(counts[members], size, generator=generator)
            else:
                pick = herding if self.options.method == "herding" else k_center
                picked = pick(_features(real, members, network), size)
            rows.append(members[picked[torch.arange(count) % size]])
        return torch.stack(rows)

    def _network(self, real: RealData, generator: Generator) -> ConvNet:
        options = ConvNetOptions(width=self.options.width)
        made = new_backbone(partial(ConvNet, options, spec=real.spec), generator, real.train.device)
        assert isinstance(made, ConvNet)
        return made


def _features(real: RealData, members: Tensor, network: ConvNet | None) -> Rows:
    """Pixels of the images `members` (n,), or features of them by a trained network, on the CPU."""
    train = real.train

    def pixels(indices: Iterable[Tensor]) -> Iterator[Tensor]:
        yield from (images.flatten(1) for images in train.stream(indices))

    def embedded(indices: Iterable[Tensor]) -> Iterator[Tensor]:
        assert network is not None
        for index in indices:
            images = train.stream(torch.split(index, BATCH))
            yield torch.cat([network.embed(each).cpu() for each in images])

    members = members.to(train.device)
    if network is None:
        return Rows(members, prod(real.spec.image_shape), pixels)
    return Rows(members, network.head.in_features, embedded)
