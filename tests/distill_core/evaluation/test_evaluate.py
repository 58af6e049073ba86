from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Generator

from distill_core.config.sections import EvaluateOptions
from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import Batch
from distill_core.engine.fresh_networks import new_backbone
from distill_core.evaluation.evaluate import (
    AfterNet,
    Draw,
    Evaluator,
    Result,
)
from distill_core.evaluation.protocols import protocol
from distill_core.testing.small import TinyBackbone, small_data
from registry import OptionError
from registry.options import check_options

RECIPE = Recipe(steps=20, batch_size=8, lr=0.01)
Make = Callable[[Generator], TinyBackbone]


@pytest.fixture(scope="module")
def real() -> RealData:
    return small_data(3)


@pytest.fixture(scope="module")
def make_backbone(real: RealData) -> Make:
    network = partial(TinyBackbone, spec=real.spec)
    return lambda generator: new_backbone(network, generator, torch.device("cpu"))


def judge(
    real: RealData,
    make_backbone: Make,
    *,
    recipe: Recipe = RECIPE,
    nets: int = 3,
    seed: int = 5,
    data: Batch | Draw | None = None,
    name: str | None = None,
    after_net: AfterNet = lambda name, net, accuracy: None,
) -> Result:
    data = data or Batch(real.train.images, real.train.labels)
    evaluator = Evaluator(real, make_backbone, {}, seed, after_net=after_net)
    return evaluator.evaluate(data, recipe, nets=nets, split=real.test, name=name)


def result(*accuracies: float) -> Result:
    return Result(accuracies, {20: accuracies}, Recipe(steps=20), 1.5)


def test_mean_and_sample_deviation() -> None:
    values = (0.25, 0.5, 0.875, 0.25)
    assert result(*values).mean == pytest.approx(np.mean(values))
    assert result(*values).std == pytest.approx(np.std(values, ddof=1))


def test_a_single_network_has_no_deviation() -> None:
    assert result(0.5).std is None
    assert str(result(0.5)) == "50.00 %"
    assert str(result(0.5, 0.7)) == "60.00 +- 14.14 %"


def test_results_survive_json() -> None:
    before = result(0.25, 0.5).noted("a note")
    assert Result.from_dict(json.loads(json.dumps(before.as_dict()))) == before


def test_networks_learn_and_equal_seeds_give_equal_accuracies(
    real: RealData, make_backbone: Make
) -> None:
    recipe = Recipe(steps=60, batch_size=8, lr=0.02, augment="none")
    first = judge(real, make_backbone, recipe=recipe)
    torch.manual_seed(123)
    again = judge(real, make_backbone, recipe=recipe)
    assert first.accuracies == again.accuracies
    assert first.mean > 0.8  # chance is 1/3


def test_networks_differ_and_a_longer_evaluation_begins_with_the_same_ones(
    real: RealData, make_backbone: Make
) -> None:
    weights: list[torch.Tensor] = []

    def spy(generator: Generator) -> TinyBackbone:
        network = make_backbone(generator)
        weights.append(network.head.weight.detach().clone())
        return network

    short = judge(real, spy, nets=2)
    long = judge(real, spy, nets=4)
    other = judge(real, spy, nets=1, seed=6)
    assert long.accuracies[:2] == short.accuracies
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[6])
    assert len(other.accuracies) == 1


def test_checkpoints_are_those_within_the_steps(real: RealData, make_backbone: Make) -> None:
    recipe = Recipe(steps=601, batch_size=2, lr=0.01, augment="none")
    found = judge(real, make_backbone, recipe=recipe, nets=2)
    assert list(found.checkpoints) == [300, 600, 601]
    assert found.checkpoints[601] == found.accuracies
    assert all(len(values) == 2 for values in found.checkpoints.values())
    assert list(judge(real, make_backbone).checkpoints) == [20]


def test_a_checkpoint_equals_a_shorter_training(real: RealData, make_backbone: Make) -> None:
    long = Recipe(steps=301, batch_size=2, lr=0.01)
    short = long.model_copy(update={"steps": 300})
    found = judge(real, make_backbone, recipe=long, nets=1)
    assert found.checkpoints[300] == judge(real, make_backbone, recipe=short, nets=1).accuracies


def test_progress_is_told_of_what_has_a_name(real: RealData, make_backbone: Make) -> None:
    told: list[tuple[str, int, float]] = []

    def tell(name: str, net: int, accuracy: float) -> None:
        told.append((name, net, accuracy))

    judge(real, make_backbone, after_net=tell)
    assert not told
    found = judge(real, make_backbone, name="distilled", after_net=tell)
    assert told == [("distilled", k, value) for k, value in enumerate(found.accuracies)]


def test_every_network_has_data_of_its_own(real: RealData, make_backbone: Make) -> None:
    drawn: list[float] = []

    def draw(generator: Generator) -> Batch:
        drawn.append(float(torch.rand((), generator=generator)))
        return Batch(real.train.images, real.train.labels)

    found = judge(real, make_backbone, data=draw)
    assert len(set(drawn)) == 3
    # Its draws do not move those of the networks.
    assert found.accuracies == judge(real, make_backbone).accuracies


def by(name: str, steps: int | None = None) -> EvaluateOptions:
    return EvaluateOptions.model_validate({"protocol": name, "steps": steps})


def test_protocols() -> None:
    own = Recipe(optimizer="adam", lr=0.003, batch_size=50, steps=77, weight_decay=0.1)
    assert protocol(by("recipe"), own, num_items=96) == own
    podd = protocol(by("podd"), own, num_items=96)
    assert podd == Recipe(lr=0.003, batch_size=50, steps=2000, augment="flip_rotate")
    assert protocol(by("rat"), own, num_items=96).steps == 3000
    sgd = Recipe(optimizer="sgd", lr=0.1)
    assert protocol(by("podd"), sgd, num_items=96).lr == 1e-3
    for name in ("recipe", "podd", "rat", "dc", "mtt", "frepo"):
        assert protocol(by(name, steps=12), own, num_items=96).steps == 12


@pytest.mark.parametrize(
    ("augment", "items", "steps", "used"),
    [("none", 10, 300, "none"), ("dsa", 256, 1000, "dsa"), ("flip_rotate", 257, 2000, "dsa")],
)
def test_the_matching_protocol_counts_epochs(
    augment: str, items: int, steps: int, used: str
) -> None:
    own = Recipe.model_validate({"augment": augment})
    found = protocol(by("dc"), own, num_items=items)
    assert (found.steps, found.augment) == (steps, used)
    assert (found.optimizer, found.lr, found.momentum) == ("sgd", 0.01, 0.9)
    assert (found.weight_decay, found.schedule, found.batch_size) == (5e-4, "step", 256)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(OptionError, match=r"Did you mean 'podd'\?"):
        check_options(EvaluateOptions, {"protocol": "pod"}, where="evaluate")


def test_mtt_keeps_a_distilled_rate_and_frepo_has_its_own() -> None:
    learned = Recipe(optimizer="sgd", lr=0.037, augment="none")
    mtt = protocol(by("mtt"), learned, num_items=300)
    assert (mtt.lr, mtt.steps, mtt.augment, mtt.schedule) == (0.037, 2000, "dsa", "step")
    assert (mtt.momentum, mtt.weight_decay, mtt.batch_size) == (0.9, 5e-4, 256)
    assert protocol(by("mtt"), Recipe(lr=0.5), num_items=10).lr == 0.01  # not Adam's
    frepo = protocol(by("frepo"), learned, num_items=10)
    assert (frepo.optimizer, frepo.lr, frepo.steps, frepo.augment) == ("adam", 3e-4, 1000, "dsa")
