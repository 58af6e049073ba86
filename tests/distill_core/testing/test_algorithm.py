"""The checks of algorithms: sound ones pass, every fault is found and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from distill_core.contracts.algorithm import Algorithm, Task
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.testing import check_algorithm
from tests.distill_core.testing.faults import fault


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


class FixedLabels(SoundAlgorithm):
    def outer_step(self, synthetic: SyntheticDataset, *, step: int, rng: Streams) -> Any:
        metrics = super().outer_step(synthetic, step=step, rng=rng)
        for labels in synthetic.groups().get("labels", ()):
            labels.grad = None
        return metrics


class SaysSo(FixedLabels):
    learns_labels = False


def test_an_algorithm_may_leave_labels_as_they_are_if_it_says_so() -> None:
    check_algorithm(SaysSo, name="x")


class Peeking(SoundAlgorithm):
    def outer_step(self, synthetic: SyntheticDataset, *, step: int, rng: Streams) -> Any:
        next(self.task.real.test.stream([torch.arange(2)]))
        return super().outer_step(synthetic, step=step, rng=rng)


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
        (Unsavable, "has a state that cannot be saved: value.history.0 is a set, which a check"),
        (Silent, 'returns metrics without "loss"'),
        (Infinite, "returns the metric norm = inf"),
        (Exploding, "leaves gradients in group 'data' that are not finite"),
        (Idle, "leaves no gradient in group 'data'"),
        (Gambling, "changes the global random state during outer_step"),
        (PixelsOnly, "leaves gradients in group 'labels' but does not optimize it"),
        (FixedLabels, "leaves no gradient in group 'labels' after outer_step; say learns_labels"),
        (Peeking, "looks at real.test"),
        (Stranger, "optimizes parameters that it was not given"),
        (Probing, "leaves gradients behind by estimate"),
        (nn.Identity, "is not an Algorithm"),
    ],
)
def test_faults_of_algorithms(broken: Any, sentence: str) -> None:
    text = fault(check_algorithm, broken)
    assert text.startswith("algorithm 'x' ")
    assert sentence in text
