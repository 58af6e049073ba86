"""What `engine.py` measures: a poster, random real images, and one outer step by either path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from graph_unroll import outer_step as graph_outer_step
from torch import Tensor
from torch.nn import functional

from distill_core.config.discovery import discover
from distill_core.config.sections import EngineOptions
from distill_core.contracts.data import DataSpec, Split
from distill_core.contracts.geometry import Boxes, Placement
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import Streams, seeded
from distill_core.contracts.synthetic import Batch, SyntheticDataset
from distill_core.data.augment import Augmentation, Draw
from distill_core.data.initial_pixels import starting_noise
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.engine.inner_batches import InnerBatches
from distill_core.engine.optimizers import Adam
from distill_core.engine.outer_loss import real_loss
from distill_core.engine.unroll import unroll

INNER_LR = 1e-3
# Paths: the baseline, and the engine by kernels in three types and by autograd in two; with the
# default cache of activations, without any, and with room for all.
GRAPH = "graph"
ENGINES: dict[str, tuple[dict[str, Any], torch.dtype]] = {
    "kernels": ({"path": "kernels"}, torch.float32),
    "kernels-none": ({"path": "kernels", "activation_cache": "none"}, torch.float32),
    "kernels-all": ({"path": "kernels", "activation_cache": "64GiB"}, torch.float32),
    "bfloat16": ({"path": "kernels", "precision": "bfloat16"}, torch.float32),
    "kernels64": ({"path": "kernels"}, torch.float64),
    "autograd": ({"path": "autograd"}, torch.float32),
    "autograd-none": ({"path": "autograd", "activation_cache": "none"}, torch.float32),
    "autograd-all": ({"path": "autograd", "activation_cache": "64GiB"}, torch.float32),
    "autograd64": ({"path": "autograd"}, torch.float64),
}


@dataclass(frozen=True)
class Sizes:
    """The sizes of one outer step; the defaults are the poster of the paper's CIFAR-10."""

    classes: int = 10
    side: int = 32
    poster: str = "64x160"
    patches: str = "6x16"
    width: int = 128
    depth: int = 3
    batch: int = 96
    warm_up: int = 3
    window: int = 4
    real: int = 500


@dataclass
class Setting:
    """Everything that an outer step works on; the same for the same sizes, whatever the path."""

    sizes: Sizes
    synthetic: SyntheticDataset
    backbone: Backbone
    real: Split
    dtype: torch.dtype

    @staticmethod
    def make(sizes: Sizes, dtype: torch.dtype = torch.float32) -> Setting:
        """Draw pixels, network and real images; in float64 they are those of float32."""
        names = tuple(f"class {k}" for k in range(sizes.classes))
        spec = DataSpec("random", names, (3, sizes.side, sizes.side), ("flip", "rotate"))
        network = {"width": sizes.width, "depth": sizes.depth}
        plugins = discover()
        backbone = new_backbone(
            lambda: plugins["backbone"].create("convnet", network, spec=spec),
            seeded(0, "backbone"),
            device=torch.device("cpu"),
        )
        count = max(sizes.real, 1)
        images = torch.randn(count, *spec.image_shape, generator=seeded(0, "real"))
        labels = torch.arange(count) % sizes.classes
        return Setting(
            sizes,
            make_synthetic(spec, poster=sizes.poster, patches=sizes.patches).to(dtype),
            backbone.to(dtype),
            Split(images.to(dtype), labels),
            dtype,
        )

    def outer_step(self, path: str, *, seed: int = 0) -> float:
        """Do one outer step; return its loss, and leave the hypergradient in `.grad`.

        Args:
            path: "graph", or a name of `ENGINES`.
            seed: of boxes, augmentation and real batch: the same for every path.
        """
        rng = Streams(seed)
        augmentation = Augmentation.named("flip_rotate", self.synthetic.spec.augmentations)
        boxes, draws = self._inner_draws(augmentation, rng)
        index = self.real.draw(self.sizes.real, generator=rng["real"])
        draw = augmentation.draw(len(index), self._hw, generator=rng["augment"])
        for parameter in self.synthetic.parameters():
            parameter.grad = None
        if path == GRAPH:
            return self._by_graph(boxes, draws, index, draw)
        engine = Engine.choose(engine_options(path), self.backbone, torch.device("cpu"))
        loss = engine.loss(self.backbone)
        batches = InnerBatches(self.synthetic, boxes, draws)
        steps = {"warm_up": self.sizes.warm_up, "window": self.sizes.window}
        trained = unroll(loss, Adam(INNER_LR), loss.model.theta, batches, **steps)
        outer = real_loss(loss, trained.theta, self.real, index, draw, chunk=engine.real_chunk)
        trained.backward(outer.cotangent)
        return outer.loss

    def hypergradient(self) -> dict[str, Tensor]:
        """Return the hypergradients of pixels and labels, flat and in float64."""
        return {
            name: torch.cat([p.grad.double().flatten() for p in group if p.grad is not None])
            for name, group in self.synthetic.groups().items()
        }

    @property
    def _hw(self) -> tuple[int, int]:
        return self.synthetic.spec.image_shape[1:]

    def _inner_draws(
        self, augmentation: Augmentation, rng: Streams
    ) -> tuple[Sequence[Boxes], Sequence[Draw]]:
        steps = self.sizes.warm_up + self.sizes.window
        boxes = [self.synthetic.draw(self.sizes.batch, generator=rng["draw"]) for _ in range(steps)]
        draws = [augmentation.draw(len(b), self._hw, generator=rng["augment"]) for b in boxes]
        return boxes, draws

    def _by_graph(
        self, boxes: Sequence[Boxes], draws: Sequence[Draw], index: Tensor, draw: Draw
    ) -> float:
        engine = Engine.choose(engine_options("autograd"), self.backbone, torch.device("cpu"))
        targets = functional.one_hot(self.real.labels[index], self.sizes.classes).to(self.dtype)
        real = Batch(Augmentation.apply(self.real.take(index), draw), targets)
        return graph_outer_step(
            engine.loss(self.backbone).model,
            Adam(INNER_LR),
            self.synthetic,
            boxes,
            draws,
            real=real,
            window=self.sizes.window,
        )


def engine_options(path: str) -> EngineOptions:
    """Return the engine's options for a name of `ENGINES`."""
    return EngineOptions.model_validate(ENGINES[path][0])


def make_synthetic(spec: DataSpec, *, poster: str, patches: str) -> SyntheticDataset:
    """Return a poster of noise with learned PoDDL labels, classes in order."""
    plugins = discover()
    options = {"size": poster, "patches": patches}
    representation = plugins["representation"].create("poster", options, spec=spec, ipc=None)
    layout = representation.layout
    placement = Placement(layout, torch.arange(spec.num_classes).reshape(layout.grid_shape))
    labeler = plugins["labeler"].create("poddl", {}, placement=placement)
    pixels = representation.pixels
    shape = (pixels.shape[1], *layout.items.hw)
    with torch.no_grad():
        pixels.copy_(starting_noise(pixels.shape, shape, generator=seeded(0, "pixels")))
    return SyntheticDataset(representation, labeler, placement=placement, spec=spec)
