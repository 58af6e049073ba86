"""DD: gradients of pixels, labels and rates against central differences in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, softplus

from distill_core.builtin.algorithms.unrolled.dd import Dd, chunks
from distill_core.builtin.algorithms.unrolled.options import DdOptions
from distill_core.builtin.backbones.convnet import ConvNet
from distill_core.contracts.algorithm import DivergenceError, Task
from distill_core.contracts.data import RealData
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.data.augment import Augmentation
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.engine.losses import soft_cross_entropy
from distill_core.testing import check_algorithm
from registry import InputError, check_options
from tests.distill_core.builtin.algorithms.unrolled.test_ratbptt import (
    SETS,
    SMOOTH,
    images_set,
    real_data,
    slopes,
)


def dd(real: RealData, **settings: Any) -> Dd:
    def fresh(generator: torch.Generator) -> Any:
        return new_backbone(
            lambda: ConvNet(SMOOTH, spec=real.spec).double(), generator, torch.device("cpu")
        )

    options = check_options(DdOptions, {"steps": 4, "inner_lr": 0.3, **settings}, where="algo")
    made = Dd(options, task=Task(real, fresh, Engine()))
    made.raw_rates.data = made.raw_rates.data.double()
    return made


def plain_loss(algorithm: Dd, synthetic: SyntheticDataset) -> Callable[[], float]:
    """The outer loss of one step by PyTorch's modules and a loop written out."""
    real, rng = algorithm.task.real, Streams(0)
    start = algorithm.task.new_backbone(rng["backbone"])
    augmentation = Augmentation.named(algorithm.options.augment, real.spec.augmentations)
    parts = -(-len(synthetic) // algorithm.batch)
    picks = [range(t % parts, len(synthetic), parts) for t in range(algorithm.options.steps)]
    draws = [augmentation.draw(len(pick), (8, 8), generator=rng["augment"]) for pick in picks]
    index = real.train.draw(algorithm.options.real_batch, generator=rng["real"])
    draw = augmentation.draw(len(index), (8, 8), generator=rng["augment"])
    images = augmentation.apply(real.train.images[index], draw)

    def loss() -> float:
        backbone = copy.deepcopy(start)
        rates = softplus(algorithm.raw_rates.detach())
        for pick, drawn, rate in zip(picks, draws, rates, strict=True):
            with torch.no_grad():
                everything = synthetic.all()
                inputs = augmentation.apply(everything.images[list(pick)], drawn)
            backbone.zero_grad()
            soft_cross_entropy(backbone(inputs), everything.labels[list(pick)]).backward()
            with torch.no_grad():
                for weight in backbone.parameters():
                    weight.sub_(rate * weight.grad)
        with torch.no_grad():
            return float(cross_entropy(backbone(images), real.train.labels[index]))

    return loss


@pytest.mark.parametrize("kind", SETS)
def test_all_gradients_agree_with_central_differences(kind: str) -> None:
    real = real_data()
    synthetic = SETS[kind](real)
    algorithm = dd(real, batch=5, real_batch=40, augment="flip_rotate")
    with torch.no_grad():  # every step has another rate
        algorithm.raw_rates += torch.linspace(-0.4, 0.4, 4, dtype=torch.float64)
    metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    loss = plain_loss(algorithm, synthetic)
    assert metrics["loss"] == pytest.approx(loss(), rel=1e-9)
    for group, norm in (("data", "grad_norm"), ("labels", "label_grad_norm")):
        slope, measured = slopes(synthetic, group, loss, seed=0, size=1e-6)
        assert abs(slope - measured) < 1e-6 * metrics[norm]
    raw = algorithm.raw_rates
    for step in range(4):
        values = []
        for move in (1e-6, -2e-6):
            raw.data[step] += move
            values.append(loss())
        raw.data[step] += 1e-6
        assert float(raw.grad[step]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_rates_start_where_asked_and_stay_positive() -> None:
    algorithm = dd(real_data(), inner_lr=0.02)
    assert torch.allclose(algorithm.rates(), torch.full((4,), 0.02, dtype=torch.float64))
    with torch.no_grad():
        algorithm.raw_rates.copy_(torch.tensor([-50.0, -5.0, 0.0, 100.0]))
    assert bool((algorithm.rates() > 0).all())
    assert algorithm.recipe().lr == pytest.approx(float(algorithm.rates().detach().mean()))


def test_a_chunk_has_an_image_of_every_class() -> None:
    """Images lie class by class; as many chunks as images of a class."""
    assert [c.tolist() for c in chunks(6, 2)] == [[0, 3], [1, 4], [2, 5]]
    assert [len(c) for c in chunks(7, 3)] == [3, 2, 2]
    assert [len(c) for c in chunks(5, 100)] == [5]
    synthetic = images_set(real_data())  # two images of each of six classes
    for chunk in chunks(len(synthetic), 6):
        assert synthetic.placement.cell_class[chunk].unique().numel() == 6


def test_it_keeps_the_contract() -> None:
    options = check_options(DdOptions, {"steps": 3, "batch": 4}, where="algo")
    check_algorithm(partial(Dd, options), name="dd")


def test_the_outer_optimizer_has_a_rate_for_each_group() -> None:
    algorithm = dd(real_data(), pixel_lr=0.5, label_lr=0.01)
    groups = {**images_set(real_data()).groups(), "algorithm": [algorithm.raw_rates]}
    optimizer = algorithm.outer_optimizer(groups)
    assert [(g["name"], g["lr"]) for g in optimizer.param_groups] == [
        ("data", 0.5),
        ("labels", 0.01),
        ("algorithm", 0.5),
    ]
    with pytest.raises(InputError, match="there is nothing to learn"):
        algorithm.outer_optimizer({"algorithm": [algorithm.raw_rates]})


def test_the_recipe_is_plain_descent() -> None:
    recipe = dd(real_data(), steps=7).recipe()
    assert (recipe.optimizer, recipe.momentum, recipe.steps) == ("sgd", 0, 7)
    assert (recipe.batch_size, recipe.schedule) == (6, "constant")


@pytest.mark.parametrize("raw", [-1e4, float("inf")])
def test_rates_that_no_network_can_be_trained_at_are_a_divergence(raw: float) -> None:
    algorithm = dd(real_data(), steps=7)
    with torch.no_grad():
        algorithm.raw_rates.fill_(raw)
    with pytest.raises(DivergenceError, match="learned inner learning rates have a mean of"):
        algorithm.recipe()
