"""The conformance checks themselves: sound components pass, and every fault is found and named."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from distill_core.contracts import Algorithm, Backbone, Labeler, Representation, Task
from distill_core.data import DataSpec, RawData, RealData
from distill_core.discovery import discover
from distill_core.geometry import Boxes, Layout, Placement
from distill_core.hookspecs import hookimpl
from distill_core.recipe import Recipe
from distill_core.streams import Streams, seeded
from distill_core.synthetic import SyntheticDataset
from distill_core.testing import (
    check_algorithm,
    check_backbone,
    check_component,
    check_dataset,
    check_labeler,
    check_orderer,
    check_representation,
)
from distill_core.testing.small import (
    TinyBackbone,
    TinyImages,
    TinyLabels,
    image_layout,
    poster_layout,
    small_data,
)
from registry import Component, InputError, Options, UnknownNameError


def fault(check: Any, make: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        check(make, name="x")
    return str(caught.value)


# Representations ---------------------------------------------------------------------------


class Sound(TinyImages):
    """Takes the budget, as the contract says."""

    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec)


def test_a_sound_representation_passes() -> None:
    check_representation(Sound, name="x")


def test_a_representation_may_refuse_a_budget_but_not_its_default() -> None:
    def refuse_some(*, spec: DataSpec, ipc: float | None) -> Representation:
        if ipc is not None:
            raise InputError("no budget.")
        return Sound(spec=spec, ipc=ipc)

    def refuse_all(*, spec: DataSpec, ipc: float | None) -> Representation:
        raise InputError("no budget.")

    check_representation(refuse_some, name="x")
    assert "refuses its own default budget: no budget." in fault(check_representation, refuse_all)


class GlobalReset(Sound):
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        self.pixels.data.normal_()


class Clockwork(Sound):
    """Reads the global seed without drawing."""

    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        self.pixels.data.fill_(float(torch.initial_seed() % 1000))


class NumpyReset(Sound):
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        self.pixels.data.fill_(0.5)
        np.random.rand()  # noqa: NPY002


class Detached(Sound):
    def expand(self, boxes: Boxes) -> Tensor:
        return super().expand(boxes).detach()


class WrongGradient(Sound):
    def expand(self, boxes: Boxes) -> Tensor:
        images = super().expand(boxes)
        return images + (images - images.detach())


class SinglePrecision(Sound):
    def expand(self, boxes: Boxes) -> Tensor:
        return super().expand(boxes).float()


class Neighbours(Sound):
    """Depends on the other boxes of the call."""

    def expand(self, boxes: Boxes) -> Tensor:
        images = super().expand(boxes)
        return images + 0.1 * images.mean()


class OtherCanvases(Sound):
    def canvases(self) -> Tensor:
        return self.pixels + 1


class Transposed(Sound):
    def expand(self, boxes: Boxes) -> Tensor:
        return super().expand(boxes).flatten(1)


class Drifting(Sound):
    def project(self) -> None:
        self.pixels.data.mul_(0.5)


class Wasteful(Sound):
    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec, ipc=ipc)
        self.register_buffer("table", torch.zeros(3))


class Hidden(Sound):
    """Keeps content outside its state."""

    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        super().reset(placement, real, generator=generator)
        self.shift = torch.randn((), generator=generator)

    def expand(self, boxes: Boxes) -> Tensor:
        return super().expand(boxes) + self.shift

    def canvases(self) -> Tensor:
        return self.pixels + self.shift


class FewDraws(Sound):
    def draw(self, index: Tensor, *, generator: Generator) -> Boxes:
        return self.layout.items[index[:1]]


class GlobalDraws(Sound):
    def draw(self, index: Tensor, *, generator: Generator) -> Boxes:
        return self.layout.items[torch.randint(len(self.layout.items), (len(index),))]


class Empty(Sound):
    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec, ipc=ipc)
        self.pixels.requires_grad_(False)


class Doubled(Sound):
    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec, ipc=ipc)
        self.double()


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (GlobalReset, "changes the global random state during reset"),
        (NumpyReset, "changes the global random state during reset"),
        (Detached, "cut off from its parameters"),
        (WrongGradient, "by central differences"),
        (SinglePrecision, "do not name a float type"),
        (Neighbours, "to another image when it is asked for among other boxes"),
        (OtherCanvases, "something else than its canvases show"),
        (Transposed, "expands items to (6, 192), not (6, 3, 8, 8)"),
        (Drifting, "moves again when a projected state is projected"),
        (Wasteful, "images per class where 1.0 were asked for"),
        (Hidden, "gives other images after its state was saved and loaded"),
        (FewDraws, "draws another number of boxes"),
        (GlobalDraws, "changes the global random state during draw"),
        (Clockwork, "gives two different results for reset from equal generators"),
        (Empty, "cut off from its parameters"),
        (Doubled, "makes parameter 'pixels' not in float32"),
        (lambda *, spec, ipc: nn.Linear(1, 1), "is no Representation"),
    ],
)
def test_faults_of_representations(broken: Any, sentence: str) -> None:
    text = fault(check_representation, broken)
    assert text.startswith("representation 'x' ")
    assert sentence in text


def layouts() -> dict[str, tuple[Layout, str]]:
    good = poster_layout()
    items, cells = good.items, good.cells
    outside = Boxes(items.canvas, items.yxyx + 3, items.item)
    nowhere = Boxes(items.canvas + 1, items.yxyx, items.item)
    renumbered = Boxes(items.canvas, items.yxyx, items.item.flip(0))
    floats = Boxes(items.canvas, items.yxyx.float(), items.item)

    def with_(**changes: Any) -> Layout:
        return Layout(**{**vars(good), **changes})

    return {
        "outside": (with_(items=outside), "items that are empty or leave the canvas"),
        "nowhere": (with_(items=nowhere), "items on a canvas that is not there"),
        "renumbered": (with_(items=renumbered), "numbers its items otherwise"),
        "floats": (with_(items=floats), "items that are not int64"),
        "no items": (with_(items=items[:0]), "has no items"),
        "grid": (with_(grid_shape=(2, 2)), "has a 2x2 grid for 6 classes"),
        "slots": (with_(cell_slot=torch.zeros(6).long()), "leaves slots of the grid without cells"),
        "short": (with_(cell_slot=torch.arange(5)), "does not give every cell a slot"),
        "cells": (
            with_(cells=Boxes(cells.canvas, cells.yxyx - 1, cells.item)),
            "cells that are empty or leave the canvas",
        ),
    }


@pytest.mark.parametrize("case", layouts())
def test_faults_of_layouts(case: str) -> None:
    layout, sentence = layouts()[case]

    def make(*, spec: DataSpec, ipc: float | None) -> Representation:
        made = Sound(spec=spec, ipc=ipc)
        made.layout = layout
        return made

    assert sentence in fault(check_representation, make)


# Labelers ----------------------------------------------------------------------------------


class SoundLabels(TinyLabels):
    """Learned labels by canvas and cell under a box's corner."""

    def __init__(self, *, placement: Placement) -> None:
        super().__init__(placement=placement, learned=True)


def test_a_sound_labeler_passes() -> None:
    check_labeler(SoundLabels, name="x")
    check_labeler(lambda *, placement: TinyLabels(placement=placement, learned=False), name="x")


class Negative(SoundLabels):
    def project(self) -> None:
        return


class Vanishing(SoundLabels):
    """Clips at 0 without a guard: a row may vanish."""

    def project(self) -> None:
        self.rows.data.clamp_(min=0)


class Unnormalised(SoundLabels):
    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        return self.rows[boxes.canvas].to(images)


class Rounded(SoundLabels):
    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        return super().labels(boxes, images).float()


class RandomStart(SoundLabels):
    def __init__(self, *, placement: Placement) -> None:
        super().__init__(placement=placement)
        self.rows.data.add_(torch.rand(self.rows.shape))


class Shared(SoundLabels):
    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        labels = super().labels(boxes, images)
        return (labels + labels.mean(0)) / 2


class Cut(SoundLabels):
    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        return super().labels(boxes, images).detach()


class Forgetful(SoundLabels):
    def __init__(self, *, placement: Placement) -> None:
        super().__init__(placement=placement)
        self.rows.data = self.rows.data.clone()

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {name: value * 0.5 + 0.1 for name, value in super().state_dict().items()}


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Negative, "is negative after an update"),
        (Vanishing, "not finite after all parameters became -1"),
        (Unnormalised, "a row is off by"),
        (Rounded, "do not name a float type"),
        (RandomStart, "changes the global random state during its construction"),
        (Shared, "another label when it is asked for among other boxes"),
        (Cut, "cut off from its parameters"),
        (Forgetful, "gives other labels after its state was saved and loaded"),
        (lambda *, placement: nn.Linear(1, 1), "is no Labeler"),
    ],
)
def test_faults_of_labelers(broken: Any, sentence: str) -> None:
    text = fault(check_labeler, broken)
    assert text.startswith("labeler 'x' ")
    assert sentence in text


def test_a_labeler_off_the_simplex_may_say_so() -> None:
    class Free(SoundLabels):
        simplex: ClassVar[bool] = False

        def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
            return self.rows[boxes.canvas].to(images)

        def project(self) -> None:
            return

    check_labeler(Free, name="x")


def test_a_labeler_may_refuse_some_placements_not_all() -> None:
    def only_images(*, placement: Placement) -> Labeler:
        if placement.layout.num_canvases == 1:
            raise InputError("a poster.")
        return SoundLabels(placement=placement)

    def nothing(*, placement: Placement) -> Labeler:
        raise InputError("no.")

    check_labeler(only_images, name="x")
    assert "refuses one image per class (no.)" in fault(check_labeler, nothing)


# Orderers ----------------------------------------------------------------------------------


class Reading:
    """Classes as they are numbered."""

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        return torch.arange(real.spec.num_classes).reshape(grid_shape)


def test_a_sound_orderer_passes() -> None:
    check_orderer(Reading, name="x")


class Floating(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        return super().order(real, grid_shape, generator=generator).float()


class Flat(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        return super().order(real, grid_shape, generator=generator).reshape(-1)


class Repeating(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        return torch.zeros(grid_shape, dtype=torch.int64)


class GlobalOrder(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        return torch.randperm(real.spec.num_classes).reshape(grid_shape)


class Shuffler(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        random.random()
        return super().order(real, grid_shape, generator=generator)


class Whitener(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        real.train.images.mul_(0.9)
        return super().order(real, grid_shape, generator=generator)


class Chatty(Reading):
    notes: ClassVar[dict[str, int]] = {"score": 3}


class Strict(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        raise InputError("never.")


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Floating, "returns torch.float32, not torch.int64"),
        (Flat, "the orderer returned a grid of shape (6,)"),
        (Repeating, "no permutation of the classes"),
        (GlobalOrder, "changes the global random state during order"),
        (Shuffler, "changes the global random state during order"),
        (Whitener, "changes the real data"),
        (Chatty, "has `notes` that are no mapping of text to text"),
        (Strict, "refuses every grid: 1x6 (never.)"),
        (dict, "has no method `order`"),
    ],
)
def test_faults_of_orderers(broken: Any, sentence: str) -> None:
    text = fault(check_orderer, broken)
    assert text.startswith("orderer 'x' ")
    assert sentence in text


# Algorithms --------------------------------------------------------------------------------


class SoundAlgorithm(Algorithm):
    """One step of gradient matching to class means, with a memory of earlier losses."""

    def __init__(self, *, task: Task) -> None:
        self.task = task
        self.average = 0.0

    def outer_optimizer(
        self, groups: Mapping[str, Sequence[nn.Parameter]]
    ) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for members in groups.values() for p in members], lr=0.1)

    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> dict[str, float]:
        network = self.task.new_backbone(rng["backbone"])
        images, labels = synthetic.at(synthetic.draw(4, generator=rng["draw"]))
        loss = -(labels * network(images).log_softmax(1)).sum(1).mean()
        loss.backward()
        self.average = 0.5 * self.average + float(loss.detach())
        pixels = synthetic.groups()["data"][0]
        assert pixels.grad is not None
        pixels.grad.mul_(self.average)
        return {"loss": float(loss.detach())}

    def recipe(self) -> Recipe:
        return Recipe()

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.average = state["average"]


def test_a_sound_algorithm_passes() -> None:
    check_algorithm(SoundAlgorithm, name="x")


class Stepping(SoundAlgorithm):
    def outer_step(self, synthetic: SyntheticDataset, *, step: int, rng: Streams) -> Any:
        metrics = super().outer_step(synthetic, step=step, rng=rng)
        synthetic.groups()["data"][0].data.sub_(0.1)
        return metrics


class Amnesiac(SoundAlgorithm):
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        return


class Unsavable(SoundAlgorithm):
    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "history": [{1, 2}]}


class Silent(SoundAlgorithm):
    def outer_step(self, synthetic: SyntheticDataset, *, step: int, rng: Streams) -> Any:
        super().outer_step(synthetic, step=step, rng=rng)
        return {}


class Infinite(SoundAlgorithm):
    def outer_step(self, synthetic: SyntheticDataset, *, step: int, rng: Streams) -> Any:
        return {**super().outer_step(synthetic, step=step, rng=rng), "norm": float("inf")}


class Exploding(SoundAlgorithm):
    def outer_step(self, synthetic: SyntheticDataset, *, step: int, rng: Streams) -> Any:
        metrics = super().outer_step(synthetic, step=step, rng=rng)
        gradient = synthetic.groups()["data"][0].grad
        assert gradient is not None
        gradient[0] = float("nan")
        return metrics


class Idle(SoundAlgorithm):
    def outer_step(self, synthetic: SyntheticDataset, *, step: int, rng: Streams) -> Any:
        return {"loss": 1.0}


class Gambling(SoundAlgorithm):
    def outer_step(self, synthetic: SyntheticDataset, *, step: int, rng: Streams) -> Any:
        synthetic.groups()["data"][0].grad = torch.randn_like(synthetic.groups()["data"][0])
        return {"loss": 1.0}


class PixelsOnly(SoundAlgorithm):
    def outer_optimizer(
        self, groups: Mapping[str, Sequence[nn.Parameter]]
    ) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups["data"], lr=0.1)


class Stranger(SoundAlgorithm):
    def outer_optimizer(
        self, groups: Mapping[str, Sequence[nn.Parameter]]
    ) -> torch.optim.Optimizer:
        return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


class Probing(SoundAlgorithm):
    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> None:
        self.outer_step(synthetic, step=0, rng=rng)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Stepping, "changes parameters in outer_step"),
        (Amnesiac, "does not go on bit for bit"),
        (Unsavable, "has a set at state_dict()['history'][0], which a checkpoint cannot hold"),
        (Silent, 'returns metrics without "loss"'),
        (Infinite, "returns the metric norm = inf"),
        (Exploding, "leaves gradients in group 'data' that are not finite"),
        (Idle, "leaves no gradient in group 'data'"),
        (Gambling, "changes the global random state during outer_step"),
        (PixelsOnly, "leaves gradients in group 'labels' but does not optimize it"),
        (Stranger, "optimizes parameters that it was not given"),
        (Probing, "leaves gradients behind by estimate"),
        (nn.Identity, "is no Algorithm"),
    ],
)
def test_faults_of_algorithms(broken: Any, sentence: str) -> None:
    text = fault(check_algorithm, broken)
    assert text.startswith("algorithm 'x' ")
    assert sentence in text


# Datasets ----------------------------------------------------------------------------------


class Dots:
    """Two classes of dots."""

    changes: ClassVar[dict[str, Any]] = {}

    def load(self) -> RawData:
        generator = seeded(0, "dots")
        images = torch.randint(256, (6, 1, 4, 4), generator=generator, dtype=torch.uint8)
        labels = torch.tensor([0, 1, 0, 1, 0, 1])
        fields: dict[str, Any] = {
            "spec": DataSpec("dots", ("a", "b"), (1, 4, 4), ()),
            "train_images": images,
            "train_labels": labels,
            "test_images": images[:2],
            "test_labels": labels[:2],
        }
        return RawData(**{**fields, **self.changes})


def dots(**changes: Any) -> type[Dots]:
    return type("Changed", (Dots,), {"changes": changes})


class Noise(Dots):
    def load(self) -> RawData:
        raw = super().load()
        generator = Generator()
        generator.seed()
        raw.train_images.random_(256, generator=generator)
        return raw


def test_a_sound_dataset_passes() -> None:
    check_dataset(Dots, name="x")


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Noise, "gives two different results for load"),
        (dots(train_labels=torch.tensor([0] * 6)), "has no training images of: b"),
        (dots(test_labels=torch.tensor([0, 2])), "test labels from 0 to 2"),
        (dots(test_labels=torch.tensor([0.0, 1.0])), "float32"),
        (dots(train_images=torch.zeros(6, 1, 4, 4)), "float32"),
        (dots(spec=DataSpec("dots", ("a", "a"), (1, 4, 4), ())), "two classes of one name"),
        (dots(spec=DataSpec("dots", ("a", " "), (1, 4, 4), ())), "a class without a name"),
        (dots(spec=DataSpec("dots", ("a", "b"), (1, 4, 4), ("fly",))), "fly"),
        (dict, "has no method `load`"),
        (type("Null", (), {"load": lambda self: None}), "loads a NoneType, not RawData"),
    ],
)
def test_faults_of_datasets(broken: Any, sentence: str) -> None:
    text = fault(check_dataset, broken)
    assert text.startswith("dataset 'x' ")
    assert sentence in text


# Backbones ---------------------------------------------------------------------------------


def test_a_sound_backbone_passes() -> None:
    check_backbone(TinyBackbone, name="x")


class Constant(TinyBackbone):
    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__(spec=spec)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)


class Spatial(TinyBackbone):
    def embed(self, images: Tensor) -> Tensor:
        return self.convolution(images)


class Headless(TinyBackbone):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.embed(images)) * 2


class Deep(TinyBackbone):
    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__(spec=spec)
        self.head = nn.Sequential(self.head)  # type: ignore[assignment]


class OnceOnly(torch.autograd.Function):
    """A function without a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class Once(TinyBackbone):
    def embed(self, images: Tensor) -> Tensor:
        return OnceOnly.apply(super().embed(images))


class Refusing(OnceOnly):
    """A function that refuses a second derivative."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise RuntimeError("not a second time\nnever")
        return gradient


class Stubborn(TinyBackbone):
    def embed(self, images: Tensor) -> Tensor:
        return Refusing.apply(super().embed(images))


class Cropped(TinyBackbone):
    """Its features leave the graph."""

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images).detach()


class Numpy(TinyBackbone):
    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__(spec=spec)
        self.head.bias.data.add_(float(np.random.rand()))  # noqa: NPY002


class Bare(TinyBackbone):
    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__(spec=spec)
        self.scale = torch.randn(())

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) * self.scale


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Constant, "starts from the same weights whatever the generator"),
        (Spatial, "embeds to (4, 6, 8, 8), not (4, 96)"),
        (Headless, "gives logits that are not its head on its features"),
        (Deep, "has a head that is no nn.Linear"),
        (Once, "by central differences"),
        (Stubborn, "cannot be differentiated twice: not a second time"),
        (Cropped, "sends no second derivative to the images"),
        (Numpy, "changes the global random state during its construction"),
        (Bare, "gives other logits after its state was saved and loaded"),
        (lambda *, spec: nn.Linear(3, 2), "is no Backbone"),
    ],
)
def test_faults_of_backbones(broken: Any, sentence: str) -> None:
    text = fault(check_backbone, broken)
    assert text.startswith("backbone 'x' ")
    assert sentence in text


def test_a_backbone_may_refuse_some_shapes_not_all() -> None:
    def colour_only(*, spec: DataSpec) -> Backbone:
        if spec.image_shape[0] == 1:
            raise InputError("grey.")
        return TinyBackbone(spec=spec)

    def nothing(*, spec: DataSpec) -> Backbone:
        raise InputError("no.")

    check_backbone(colour_only, name="x")
    assert "refuses 3x8x8 (no.)" in fault(check_backbone, nothing)


# Records -----------------------------------------------------------------------------------


class Bare_(Options):
    """An option that nobody explains."""

    speed: int = 3


@pytest.mark.parametrize(
    ("component", "sentence"),
    [
        (Component("x", lambda options: Reading()), "has no summary"),
        (
            Component("x", lambda options: Reading(), Bare_, "reads"),
            "has an option 'speed' without a description",
        ),
        (
            Component("x", lambda options: Repeating(), summary="repeats"),
            "no permutation of the classes",
        ),
    ],
)
def test_records_are_checked_too(component: Component, sentence: str) -> None:
    module = ModuleType("mine")
    module.distill_orderers = hookimpl(  # type: ignore[attr-defined]
        lambda: [component], specname="distill_orderers"
    )
    plugins = discover(extra=[("mine", module)], only=[])
    with pytest.raises(AssertionError) as caught:
        check_component(plugins, "orderer", "x")
    assert str(caught.value).startswith("orderer 'x' ")
    assert sentence in str(caught.value)


def test_an_unknown_component_is_no_assertion() -> None:
    with pytest.raises(UnknownNameError):
        check_component(discover(only=[]), "orderer", "x")


# Stand-ins ---------------------------------------------------------------------------------


def test_small_data_are_the_same_in_every_call_and_can_be_learned() -> None:
    one, other = small_data(5), small_data(5)
    assert torch.equal(one.train.images, other.train.images)
    assert one.fingerprint == other.fingerprint
    means = torch.stack([one.train.images[one.train.labels == k].mean(0) for k in range(5)])
    distances = torch.cdist(one.test.images.flatten(1), means.flatten(1))
    assert (distances.argmin(1) == one.test.labels).float().mean() > 0.9


def test_small_layouts_hold_together() -> None:
    assert len(image_layout(6, ipc=2).items) == 12
    items = poster_layout(wraps=True).items.yxyx
    height, width = poster_layout(wraps=True).canvas_hw
    assert (items[:, 2] > height).any()
    assert (items[:, 3] > width).any()
