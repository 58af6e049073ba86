from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from distill_core.contracts.data import Split
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.streams import seeded
from distill_core.data.augment import Augmentation
from distill_core.training.train import accuracy, learning_rate, right_by_class, train

NONE = Augmentation(())


def recipe(**settings: object) -> Recipe:
    plain = {"optimizer": "sgd", "momentum": 0.0, "augment": "none", "batch_size": 100}
    return Recipe.model_validate({**plain, **settings})


def linear(seed: int = 0) -> nn.Sequential:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.randn(3, 12, generator=seeded(seed, "weights")))
    return network


def data(n: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeded(1, "data")
    images = torch.randn(n, 3, 2, 2, generator=generator, dtype=torch.float64)
    labels = torch.rand(n, 3, generator=generator, dtype=torch.float64)
    return images, labels / labels.sum(1, keepdim=True)


class Spy(nn.Module):
    """Keeps the batches that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()
        self.batches: list[torch.Tensor] = []
        self.modes: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(images)
        self.modes.append(self.training)
        return self.inner(images)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rates", [(0.1, 0.1, 0.1, 0.1), (0.1, 0.1, 0.01, 0.01)])
def test_sgd_equals_the_closed_form(
    decay: float, momentum: float, rates: tuple[float, ...]
) -> None:
    """With momentum that lasts when the rate falls, which DC's published evaluation loses."""
    images, labels = data()
    flat = images.flatten(1)
    weight = linear()[1].weight.detach().clone()
    velocity = torch.zeros_like(weight)
    for rate in rates:
        gap = torch.softmax(flat @ weight.T, 1) - labels
        gradient = gap.T @ flat / len(flat) + decay * weight
        velocity = momentum * velocity + gradient
        weight -= rate * velocity
    network = train(
        linear(),
        images,
        labels,
        recipe(
            lr=0.1,
            momentum=momentum,
            weight_decay=decay,
            schedule="step" if rates[-1] < rates[0] else "constant",
            steps=4,
        ),
        augmentation=NONE,
        generator=seeded(0, "train"),
    )
    assert torch.allclose(network[1].weight, weight, atol=1e-12)


def test_the_first_step_of_adam_equals_the_closed_form() -> None:
    images, labels = data()
    flat, before = images.flatten(1), linear()[1].weight.detach()
    gradient = (torch.softmax(flat @ before.T, 1) - labels).T @ flat / len(flat)
    settings = recipe(optimizer="adam", lr=0.01, steps=1)
    network = train(
        linear(), images, labels, settings, augmentation=NONE, generator=seeded(0, "train")
    )
    expected = before - 0.01 * gradient / (gradient.abs() + 1e-8)
    assert torch.allclose(network[1].weight, expected, atol=1e-10)


def test_schedules() -> None:
    rates = [learning_rate(Recipe(lr=2.0, schedule="step", steps=5), step) for step in range(5)]
    assert rates == pytest.approx([2, 2, 2, 0.2, 0.2])
    cosine = Recipe(lr=2.0, schedule="cosine", steps=8)
    assert learning_rate(cosine, 0) == 2.0
    assert learning_rate(cosine, 4) == pytest.approx(1.0)
    assert learning_rate(cosine, 7) == pytest.approx(1 + math.cos(7 * math.pi / 8))
    assert learning_rate(Recipe(lr=2.0, steps=8), 7) == 2.0


def test_the_schedule_is_used() -> None:
    images, labels = data()
    weights = []
    for schedule in ("constant", "step"):
        network = train(
            linear(),
            images,
            labels,
            recipe(lr=0.5, schedule=schedule, steps=4),
            augmentation=NONE,
            generator=seeded(0, "train"),
        )
        weights.append(network[1].weight.detach())
    assert not torch.allclose(weights[0], weights[1])


def test_class_numbers_train_like_one_hot_labels() -> None:
    images, _ = data()
    classes = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    weights = []
    for labels in (classes, torch.eye(3, dtype=torch.float64)[classes]):
        network = train(
            linear(),
            images,
            labels,
            recipe(lr=0.1, steps=5, batch_size=3),
            augmentation=NONE,
            generator=seeded(0, "train"),
        )
        weights.append(network[1].weight.detach())
    assert torch.equal(*weights)


def test_batches_hold_different_images_and_follow_the_generator() -> None:
    images, labels = data()
    spies = []
    for seed in (0, 0, 1):
        spy = train(
            Spy(),
            images,
            labels,
            recipe(batch_size=4, steps=30),
            augmentation=NONE,
            generator=seeded(seed, "train"),
        )
        spies.append([frozenset(image.sum().item() for image in batch) for batch in spy.batches])
    known = {image.sum().item() for image in images}
    assert all(len(batch) == 4 and batch <= known for batch in spies[0])
    assert set().union(*spies[0]) == known
    assert spies[0] == spies[1]
    assert spies[0] != spies[2]


def test_all_images_in_order_where_the_batch_is_as_large() -> None:
    images, labels = data()
    spy = train(
        Spy(),
        images,
        labels,
        recipe(batch_size=7, steps=2),
        augmentation=NONE,
        generator=seeded(0, "train"),
    )
    assert all(torch.equal(batch, images) for batch in spy.batches)


def test_every_batch_is_augmented() -> None:
    images, labels = data()
    spy = train(
        Spy(),
        images,
        labels,
        recipe(steps=20),
        augmentation=Augmentation(("flip",)),
        generator=seeded(0, "train"),
    )
    flipped = images.flip(3)
    for batch in spy.batches:
        same = (batch == images).flatten(1).all(1)
        assert bool((same | (batch == flipped).flatten(1).all(1)).all())
    assert len({tuple(batch.flatten().tolist()) for batch in spy.batches}) > 10


def test_observers_see_the_network_and_training_goes_on_in_training_mode() -> None:
    images, labels = data()
    seen = []

    def observe(step: int, network: nn.Module) -> None:
        network.eval()
        seen.append(step)

    spy = train(
        Spy(),
        images,
        labels,
        recipe(steps=5),
        augmentation=NONE,
        generator=seeded(0, "train"),
        at_steps=(2, 5, 9),
        observe=observe,
    )
    assert seen == [2, 5]
    assert spy.modes == [True] * 5


@pytest.mark.parametrize("of_network", [True, False])
def test_a_module_that_a_user_froze_stays_frozen_in_a_network_that_trains(of_network: bool) -> None:
    images, labels = data()
    norm = nn.BatchNorm2d(3)
    network = nn.Sequential(norm, nn.Flatten(), nn.Linear(images[0].numel(), 3)).to(images)
    network.train(of_network)
    norm.eval()
    split = Split(images, labels.argmax(1))
    accuracy(network, split)
    train(
        network,
        images,
        split.labels,
        recipe(steps=2),
        augmentation=NONE,
        generator=seeded(0, "train"),
        at_steps=(1,),
        observe=lambda _, network: network.eval(),
    )
    assert network.training
    # Of a network that is in evaluation mode as a whole, nothing was frozen.
    assert norm.training is not of_network
    assert bool(norm.running_mean.any()) is not of_network


@pytest.mark.parametrize("chunk", [1, 4, 500])
def test_accuracy_counts_right_answers(chunk: int) -> None:
    generator = seeded(3, "split")
    images = torch.randn(23, 3, 2, 2, generator=generator, dtype=torch.float64)
    split = Split(images, torch.randint(3, (23,), generator=generator))
    network = linear()
    right = 0
    for image, label in zip(split.images, split.labels.tolist(), strict=True):
        logits = [float(row @ image.flatten()) for row in network[1].weight.detach()]
        right += logits.index(max(logits)) == label
    assert accuracy(network, split, chunk=chunk) == right / 23


def test_nan_is_no_answer() -> None:
    """To argmax it is the largest, so that a network that diverged would know the class 0."""
    network = linear()
    with torch.no_grad():
        network[1].weight.fill_(torch.nan)
    split = Split(data()[0], torch.zeros(7, dtype=torch.int64))
    assert accuracy(network, split) == 0
    assert right_by_class(network, split, 3) == [0, 0, 0]


@pytest.mark.parametrize("training", [True, False])
def test_accuracy_uses_running_statistics_and_puts_the_mode_back(training: bool) -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 3))
    network.train(training)
    before = network[0].running_mean.clone()
    accuracy(network, Split(torch.full((5, 3, 2, 2), 7.0), torch.zeros(5, dtype=torch.int64)))
    assert network.training is training
    assert torch.equal(network[0].running_mean, before)


def test_training_moves_running_statistics() -> None:
    images, labels = data()
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 3)).double()
    train(
        network,
        images + 5,
        labels,
        recipe(steps=50),
        augmentation=NONE,
        generator=seeded(0, "train"),
    )
    expected = (images + 5).mean((0, 2, 3))
    assert torch.allclose(network[0].running_mean, expected, rtol=0.02)


def test_memory_layout_does_not_change_the_result() -> None:
    images, labels = data()
    weights = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3))
        with torch.no_grad():
            for parameter in network.parameters():
                drawn = torch.randn(parameter.shape, generator=seeded(0, tuple(parameter.shape)))
                parameter.copy_(drawn)
        train(
            network,
            images.float().contiguous(memory_format=layout),
            labels.float(),
            recipe(steps=5, lr=0.1, batch_size=3),
            augmentation=Augmentation(("rotate",)),
            generator=seeded(0, "train"),
        )
        weights.append(network[0].weight.detach())
    assert torch.equal(*weights)


def test_global_random_state_is_neither_read_nor_moved() -> None:
    images, labels = data()
    weights = []
    for seed in (1, 2):
        fresh = linear()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        network = train(
            fresh,
            images,
            labels,
            recipe(batch_size=3, steps=5),
            augmentation=Augmentation(("flip", "rotate")),
            generator=seeded(0, "train"),
        )
        assert torch.equal(torch.get_rng_state(), state)
        weights.append(network[1].weight.detach())
    assert torch.equal(*weights)
