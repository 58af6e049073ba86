"""Ordinary training by graphs against the same training, operation by operation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.data import AUGMENTATIONS
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.streams import global_seed, seeded
from distill_core.data.augment import Augmentation
from distill_core.engine import forward
from distill_core.engine.graphs import training as graph_training
from distill_core.engine.graphs.training import no_training_graphs
from distill_core.testing.small import small_data
from distill_core.training import train as training
from distill_core.training.train import train
from tests.distill_core.engine.traced_graphs import Traced

RECIPES = {
    "adam": Recipe(optimizer="adam", lr=0.01, weight_decay=0.01, batch_size=5, steps=6,
                   schedule="cosine", augment="flip_rotate"),
    "sgd": Recipe(optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.01, batch_size=100,
                  steps=6, schedule="step", augment="none"),
}  # fmt: skip
# A bias before a normalisation has no gradient but for rounding, which Adam scales up to a step.
BEFORE_A_NORM = 1


def trained(
    recipe: Recipe, images: Tensor, labels: Tensor
) -> tuple[list[Tensor], list[tuple[int, list[Tensor]]]]:
    """The parameters at the end, and at the steps that were asked for."""
    with global_seed(seeded(0)):
        network = ConvNet(ConvNetOptions(width=2, depth=1), spec=small_data().spec)
    seen: list[tuple[int, list[Tensor]]] = []

    def observe(step: int, backbone: nn.Module) -> None:
        seen.append((step, [p.detach().clone() for p in backbone.parameters()]))
        backbone.eval()

    train(
        network, images, labels, recipe,
        augmentation=Augmentation.named(recipe.augment, AUGMENTATIONS),
        generator=seeded(1), at_steps=(2, 6), observe=observe,
    )  # fmt: skip
    assert network.training or seen[-1][0] == recipe.steps
    return [p.detach() for p in network.parameters()], seen


@pytest.mark.parametrize(("name", "half", "classes"), [("adam", True, False), ("sgd", False, True)])
def test_training_by_graphs_is_training(
    name: str, half: bool, classes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = small_data().train
    images = split.images[:12].half() if half else split.images[:12]
    labels = split.labels[:12] if classes else torch.eye(6)[split.labels[:12]]
    # What C functions do cannot be traced.
    monkeypatch.setattr(forward, "no_kernels", lambda backbone, device: "off")
    expected = trained(RECIPES[name], images, labels)
    capture = Traced()
    monkeypatch.setattr(training, "no_training_graphs", lambda backbone, images: "")
    monkeypatch.setattr(training, "CudaCapture", lambda device: capture)
    found = trained(RECIPES[name], images, labels)
    assert capture.replays == 6
    assert [step for step, _ in found[1]] == [step for step, _ in expected[1]] == [2, 6]
    for one, other in zip(
        [found[0], *(p for _, p in found[1])], [expected[0], *(p for _, p in expected[1])],
        strict=True,
    ):  # fmt: skip
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            if name == "adam" and place == BEFORE_A_NORM:
                continue
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[1][0][1][0], found[1][1][1][0])


def test_whether_training_can_be_captured_is_tried_once_for_networks_that_are_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[tuple[int, ...]] = []

    def fails(loss: object, shape: tuple[int, ...], *, there_and_back: bool) -> str:
        assert not there_and_back
        tried.append(shape)
        return "it waits for the device"

    monkeypatch.setattr(graph_training, "_TRIED", {})
    monkeypatch.setattr(graph_training, "no_graphs", lambda backbone, device: "")
    monkeypatch.setattr(graph_training, "CudaCapture", lambda device: Traced())
    monkeypatch.setattr(graph_training, "fails_in_graphs", fails)
    networks = [
        ConvNet(ConvNetOptions(width=width, depth=1), spec=small_data().spec) for width in (2, 2, 4)
    ]
    for network in networks:
        assert no_training_graphs(network, torch.zeros(1, 3, 8, 8)) == "it waits for the device"
    assert tried == [(3, 8, 8), (3, 8, 8)]


def test_on_the_cpu_training_is_not_captured() -> None:
    network = ConvNet(ConvNetOptions(width=2, depth=1), spec=small_data().spec)
    assert no_training_graphs(network, torch.zeros(1, 3, 8, 8)) == "there are none on cpu"
