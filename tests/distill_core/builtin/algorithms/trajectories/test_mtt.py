"""Trajectory matching against loops that keep every graph, and its known defects elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill_core.builtin.algorithms.trajectories.ftd import Ftd
from distill_core.builtin.algorithms.trajectories.mtt import Mtt
from distill_core.builtin.algorithms.trajectories.options import (
    FtdOptions,
    MttOptions,
    TeslaOptions,
)
from distill_core.builtin.algorithms.trajectories.tesla import Tesla
from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.algorithm import Task
from distill_core.contracts.data import RealData, Split
from distill_core.contracts.network import Backbone, FlatModel
from distill_core.contracts.streams import Streams, seeded
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.engine.inner_batches import InnerBatches
from distill_core.engine.losses import soft_cross_entropy
from distill_core.system.memory import PeakBytes
from distill_core.testing import check_algorithm
from distill_core.testing.small import TinyBackbone, small_data
from distill_core.training.expert_cache import Experts
from registry import InputError, OptionError, check_options
from tests.distill_core.builtin.algorithms.unrolled.test_ratbptt import SETS, gradients, poster_set

SMALL: dict[str, Any] = {
    "syn_steps": 5,
    "batch": 7,
    "experts": 2,
    "expert_batch": 9,
    "coverage_normalize": False,
}
# With a rate that moves the student well, and bounds that no gradient reaches.
SMOOTH: dict[str, Any] = {"student_lr": 0.1, "rate_lr": 1e-9, "expert_lr": 0.1}


def real_data() -> RealData:
    real = small_data()
    return replace(real, train=Split(real.train.images.double(), real.train.labels))


def task(real: RealData, engine: Engine | None = None, network: Any = TinyBackbone) -> Task:
    def fresh(generator: torch.Generator) -> Backbone:
        made = new_backbone(lambda: network(spec=real.spec), generator, torch.device("cpu"))
        return made.double()

    experts = Experts(real, fresh, Engine(), backbone={"name": "tiny"}, seed=0, folder=None)
    return Task(real, fresh, engine or Engine(), experts)


def mtt(real: RealData, **settings: Any) -> Mtt:
    options = check_options(MttOptions, {**SMALL, **settings}, where="algo")
    made = Mtt(options, task=task(real))
    made.log_rate.data = made.log_rate.data.double()
    return made


def graph_loss(
    algorithm: Mtt, synthetic: SyntheticDataset, log_rate: Tensor, *, detach: bool = False
) -> Tensor:
    """The loss of the outer step of seed 0, with the graph of all steps.

    Args:
        algorithm: gives settings and draws, nothing else.
        synthetic: pixels and labels.
        log_rate: of the student.
        detach: gradients are taken at parameters that are constants.
    """
    rng, resolved = Streams(0), algorithm.resolved
    model = FlatModel(algorithm.task.new_backbone(rng["backbone"]))
    index = int(torch.randint(algorithm.options.experts, (), generator=rng["experts"]))
    first = int(torch.randint(resolved.max_start, (), generator=rng["experts"]))
    assert algorithm.task.experts is not None
    start, end = algorithm.task.experts.snapshots(
        algorithm.expert_recipe,
        index,
        [first, first + resolved.expert_epochs],
        until=resolved.epochs,
    )
    start, end = start.double(), end.double()
    batches = InnerBatches.passes(
        synthetic,
        size=resolved.batch,
        steps=resolved.syn_steps,
        augmentation=algorithm._augmentation,
        rng=rng,
    )
    theta = start.clone().requires_grad_()
    for boxes, draw in zip(batches._boxes, batches._draws, strict=True):
        images, labels = synthetic.at(boxes)
        at = theta.detach().requires_grad_() if detach else theta
        logits = model.logits(at, algorithm._augmentation.apply(images, draw))
        (gradient,) = torch.autograd.grad(soft_cross_entropy(logits, labels), at, create_graph=True)
        theta = theta - log_rate.exp() * gradient
    return (theta - end).square().sum() / (start - end).square().sum()


def compare(algorithm: Mtt, synthetic: SyntheticDataset, *, detach: bool = False) -> None:
    """All gradients of an outer step equal those of the whole graph to 1e-8."""
    metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    parameters = [*synthetic.parameters(), algorithm.log_rate]
    value = graph_loss(algorithm, synthetic, algorithm.log_rate, detach=detach)
    expected = torch.autograd.grad(value, parameters)
    assert metrics["loss"] == pytest.approx(float(value.detach()), rel=1e-10)
    for parameter, wanted in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        assert float(wanted.abs().max()) > 0
        error = float((parameter.grad - wanted).abs().max())
        assert error <= 1e-8 * float(wanted.abs().max())


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("augment", ["none", "dsa"])
def test_it_equals_the_graph_of_all_steps(kind: str, augment: str) -> None:
    real = real_data()
    compare(mtt(real, augment=augment, **SMOOTH), SETS[kind](real))


def test_it_agrees_with_central_differences() -> None:
    real = real_data()
    synthetic = poster_set(real)
    algorithm = mtt(real, **SMOOTH)
    algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    parameters: list[nn.Parameter] = [*synthetic.parameters(), algorithm.log_rate]
    for parameter in parameters:
        assert parameter.grad is not None
        along = torch.randn(parameter.shape, generator=seeded(0)).double()
        values, size = [], 1e-5
        for move in (size, -2 * size):
            parameter.data.add_(move * along)
            values.append(float(graph_loss(algorithm, synthetic, algorithm.log_rate).detach()))
        parameter.data.add_(size * along)
        slope = float((parameter.grad * along).sum())
        assert slope == pytest.approx((values[0] - values[1]) / (2 * size), rel=1e-5)


def test_pixels_at_the_border_get_as_much_as_those_inside() -> None:
    real = real_data()
    plain, normal = poster_set(real), poster_set(real)
    mtt(real).outer_step(plain, step=0, rng=Streams(0))
    mtt(real, coverage_normalize=True).outer_step(normal, step=0, rng=Streams(0))
    (coverage,) = plain.coverage()
    wanted = gradients(plain)[0] / (coverage / coverage.mean())
    assert torch.allclose(gradients(normal)[0], wanted, rtol=1e-12)
    assert MttOptions().coverage_normalize


@pytest.mark.parametrize("made", [(Mtt, MttOptions), (Ftd, FtdOptions), (Tesla, TeslaOptions)])
@pytest.mark.parametrize(
    "case", ["tiny network", "microbatches", "kernels", "some graphs", "one step"]
)
def test_the_memory_that_is_predicted_is_what_a_step_takes(made: Any, case: str) -> None:
    """Counted in bytes of tensors alive together; the prediction makes no expert."""
    real, (kind, options) = real_data(), made
    engines = {
        "microbatches": Engine(microbatch=3),
        "kernels": Engine(kernels=True, activation_cache=2**30),
        "some graphs": Engine(activation_cache=2**22),
    }
    network: Any = TinyBackbone
    if case in engines:
        network = partial(ConvNet, ConvNetOptions(width=16))
    steps = {"tiny network": 13, "one step": 1}.get(case, 5)
    settings = {**SMALL, "syn_steps": steps}
    trained = kind(options(**settings), task=task(real, engines.get(case), network))
    synthetic, rng = poster_set(real), Streams(0)
    estimate = trained.estimate(synthetic, rng=rng)
    assert estimate.seconds > 0
    assert rng.state_dict() == {}
    assert trained.task.experts._memory == {}
    trained.prepare(lambda _: None)
    with PeakBytes() as memory:
        trained.outer_step(synthetic, step=0, rng=Streams(0))
    assert estimate.memory == pytest.approx(memory.peak, rel=0.25)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_rate_stays_positive_whatever_the_gradient(sign: int) -> None:
    """The published rate is learned as it is, and users report negative ones and NaN."""
    algorithm = mtt(real_data(), rate_lr=1e-4)
    optimizer = algorithm.outer_optimizer(
        {"data": [nn.Parameter(torch.zeros(1))], "algorithm": [algorithm.log_rate]}
    )
    for _ in range(20):
        before = algorithm.rate
        algorithm.log_rate.grad = torch.tensor(sign * 1e30, dtype=torch.float64)
        algorithm._bound_rate_step()
        optimizer.step()
        assert algorithm.rate > 0
        assert abs(math.log(algorithm.rate / before)) <= 0.2 + 1e-9
    assert algorithm.recipe().lr == algorithm.rate


def test_the_first_step_of_the_rate_is_the_published_one() -> None:
    """SGD on the logarithm, scaled so that the rate moves by rate_lr times its gradient."""
    algorithm = mtt(real_data(), student_lr=0.02, rate_lr=1e-7)
    slope, before = 3.0, algorithm.rate  # slope: d loss / d rate
    optimizer = algorithm.outer_optimizer(
        {"data": [nn.Parameter(torch.zeros(1))], "algorithm": [algorithm.log_rate]}
    )
    algorithm.log_rate.grad = torch.tensor(slope * algorithm.rate, dtype=torch.float64)
    optimizer.step()
    assert algorithm.rate - before == pytest.approx(-1e-7 * slope, rel=1e-3)


def test_a_fixed_rate() -> None:
    real = real_data()
    algorithm = mtt(real, rate_lr=0)
    algorithm.outer_step(poster_set(real), step=0, rng=Streams(0))
    assert algorithm.meta_parameters() == ()
    assert algorithm.log_rate.grad is None
    assert algorithm.recipe().lr == pytest.approx(0.02)


def test_an_expert_that_stands_still_is_not_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    real = real_data()
    algorithm, synthetic = mtt(real), poster_set(real)
    experts = algorithm.task.experts
    assert experts is not None
    take, asked = experts.snapshots, []

    def still_at_first(*args: Any, **kwargs: Any) -> list[Tensor]:
        found = take(*args, **kwargs)
        asked.append(1)
        return [found[0], found[0].clone()] if len(asked) <= 2 else found

    monkeypatch.setattr(experts, "snapshots", still_at_first)
    metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    assert metrics["skipped"] == 2
    assert all(math.isfinite(value) for value in metrics.values())
    with pytest.raises(InputError, match="the experts stand still"):
        mtt(real, expert_lr=1e-12).outer_step(synthetic, step=0, rng=Streams(0))


def test_only_the_snapshots_that_are_used_are_made() -> None:
    algorithm = mtt(real_data(), max_start=3, expert_epochs=2)
    lines: list[str] = []
    algorithm.prepare(lines.append)
    experts = algorithm.task.experts
    assert experts is not None
    assert {len(each) for each in experts._memory.values()} == {5}  # 0 to 2 - 0 + 2
    assert lines[0].startswith("experts  0 of 2 are there; 2 to make, 4 epochs each")


@pytest.mark.parametrize(
    ("classes", "side", "expected"),
    [
        (10, 32, (50, 2, 2, 100, 1e-7, 96)),
        (100, 32, (20, 3, 20, 1000, 1e-5, 200)),
        (10, 8, (20, 2, 3, 30, 1e-5, 96)),
        (200, 64, (10, 2, 10, 10_000, 1e-4, 400)),
    ],
)
def test_defaults_are_the_published_ones(
    classes: int, side: int, expected: tuple[float, ...]
) -> None:
    resolved = MttOptions().resolve_defaults(num_classes=classes, side=side)
    found = (resolved.syn_steps, resolved.expert_epochs, resolved.max_start, resolved.pixel_lr)
    assert (*found, resolved.rate_lr, resolved.batch) == expected


def test_an_unknown_setting() -> None:
    with pytest.raises(OptionError):
        mtt(real_data(), syn_steps=0)


@pytest.mark.parametrize("settings", [{"rate_lr": 0}, {"batch": 2, "augment": "none"}])
def test_it_keeps_the_contract_with_other_options(settings: dict[str, Any]) -> None:
    options = MttOptions(**{**SMALL, **settings})
    check_algorithm(lambda *, task: Mtt(options, task=task), name="mtt")
