"""RCIG: its gradient against a dense solution of the inner problem, its order, its state."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from distill_core.builtin.algorithms.regression.adabelief import AdaBelief
from distill_core.builtin.algorithms.regression.implicit import leave_both
from distill_core.builtin.algorithms.regression.linearised import InnerProblem, Linearised
from distill_core.builtin.algorithms.regression.options import RcigOptions
from distill_core.builtin.algorithms.regression.rcig import Rcig
from distill_core.contracts.algorithm import Task
from distill_core.contracts.data import RealData
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import Streams, seeded
from distill_core.contracts.synthetic import Batch, SyntheticDataset
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.system.memory import PeakBytes
from distill_core.system.state_tree import copied
from distill_core.testing import check_algorithm
from distill_core.testing.assertions import equal
from distill_core.testing.small import TinyBackbone, small_data
from registry import InputError, OptionError, check_options
from tests.distill_core.builtin.algorithms.regression.test_linearised import dense_jacobian
from tests.distill_core.builtin.algorithms.unrolled.test_ratbptt import (
    images_set,
    poster_set,
    real_data,
)

SHORT = {
    **{"pool": 3, "real_batch": 20, "inner_lr": 0.01, "inverse_lr": 0.1, "l2_rate": 0.05},
    **{"inner_steps": 5, "inverse_steps": 5},
}


def rcig(real: RealData, engine: Engine | None = None, **settings: Any) -> Rcig:
    def fresh(generator: torch.Generator) -> Backbone:
        return new_backbone(
            lambda: TinyBackbone(spec=real.spec).double(), generator, torch.device("cpu")
        )

    options = check_options(RcigOptions, {**SHORT, **settings}, where="algo")
    return Rcig(options, task=Task(real, fresh, engine or Engine()))


class Dense:
    """Everything about one network, images and targets by explicit matrices."""

    def __init__(self, backbone: Backbone, images: Tensor, labels: Tensor, *, flip: bool) -> None:
        self.penalty = 0.05 * len(images)
        self.targets = (labels - 1 / 6) / 0.6**0.5
        if flip:
            images = torch.cat([images, torch.flip(images, [3])])
            self.targets = torch.cat([self.targets, self.targets])
        with torch.no_grad():
            self.features = backbone.embed(images)
        kernel = self.features @ self.features.T
        self.inverse = torch.linalg.inv(kernel + self.penalty * torch.eye(len(kernel)).double())
        self.jacobian = dense_jacobian(backbone, images).detach()

    def tangent(self) -> Tensor:
        """The exact solution: (I + J^T A^-1 J) tau = J^T A^-1 Y."""
        known = torch.einsum("nkp,nm,mk->p", self.jacobian, self.inverse, self.targets)
        return torch.linalg.solve(self.hessian(), known)

    def hessian(self) -> Tensor:
        product = torch.einsum("nkp,nm,mkq->pq", self.jacobian, self.inverse, self.jacobian)
        return product + torch.eye(len(product)).double()

    def outer(self, backbone: Backbone, real: Batch, tangent: Tensor, log_t: float) -> float:
        rest = self.targets - self.jacobian @ tangent
        with torch.no_grad():
            fitted = backbone.embed(real.images) @ self.features.T @ self.inverse @ rest
            outputs = dense_jacobian(backbone, real.images) @ tangent + fitted
            return float(cross_entropy(math.exp(log_t) * outputs, real.labels))


@pytest.mark.parametrize(
    ("engine", "settings"),
    [(Engine(), {}), (Engine(real_chunk=7), {"pool": 9, "inner_steps": 4, "inverse_steps": 6})],
)
def test_the_memory_that_is_predicted_is_what_a_step_takes(
    engine: Engine, settings: dict[str, Any]
) -> None:
    """Counted in bytes of tensors alive together, in a step that makes the pool."""
    real = real_data()
    synthetic, rng = poster_set(real), Streams(0)
    algorithm = rcig(real, engine, **settings)
    before = copied(algorithm.state_dict())
    estimate = algorithm.estimate(synthetic, rng=rng)
    assert estimate.seconds > 0
    assert rng.state_dict() == {}
    assert equal(before, algorithm.state_dict())
    assert all(p.grad is None for p in [*synthetic.parameters(), *algorithm.meta_parameters()])
    with PeakBytes() as memory:
        algorithm.outer_step(synthetic, step=0, rng=Streams(0))
        before_a_step = copied(algorithm.state_dict())  # as the outer loop does
        algorithm.outer_step(synthetic, step=1, rng=Streams(0))
    assert before_a_step["pool"]
    assert estimate.memory == pytest.approx(memory.peak, rel=0.25)


@pytest.mark.parametrize("flip", [False, True])
def test_direct_and_implicit_gradient_are_that_of_the_exact_solution(flip: bool) -> None:
    """Central differences of a loss whose inner problem is solved anew, with a dense Hessian."""
    real = small_data(size=4)
    real = replace(real, train=replace(real.train, images=real.train.images.double()))
    algorithm = rcig(real, Engine(real_chunk=7), flip=flip)
    with torch.no_grad():
        algorithm._log_temperature.fill_(0.3)
    backbone = algorithm.task.new_backbone(Streams(0)["backbone"]).eval()
    network = Linearised(backbone, Engine())
    generator = seeded(0, "items")
    images = torch.randn(5, 3, 4, 4, generator=generator, dtype=torch.float64)
    labels = torch.rand(5, 6, generator=generator, dtype=torch.float64)
    index = torch.arange(20)
    batch = Batch(real.train.images[index], real.train.labels[index])

    items = Batch(images.clone().requires_grad_(), labels.clone().requires_grad_())
    dense = Dense(backbone, images, labels, flip=flip)
    tangent = dense.tangent()
    direct = algorithm._direct(network, items, tangent, index)
    share = dense.penalty / dense.targets.numel()
    vector = torch.linalg.solve(share * dense.hessian(), direct.tangent)
    implicit = algorithm._implicit(network, items, tangent, vector)
    log_t = float(algorithm._log_temperature.detach())
    assert direct.loss == pytest.approx(dense.outer(backbone, batch, tangent, log_t), rel=1e-9)

    def loss(moved: Batch, log_t: float) -> float:
        again = Dense(backbone, *moved, flip=flip)
        return again.outer(backbone, batch, again.tangent(), log_t)

    for place in range(2):
        along = torch.randn(items[place].shape, generator=generator, dtype=torch.float64)
        found = float((direct.items[place] * along).sum() + (implicit[place] * along).sum())
        ends = []
        for move in (1e-5, -1e-5):
            moved = [images, labels]
            moved[place] = moved[place] + move * along
            ends.append(loss(Batch(*moved), log_t))
        norm = float((direct.items[place] + implicit[place]).norm())
        assert float(implicit[place].norm()) > 0.01 * norm  # both parts matter
        assert abs(found - (ends[0] - ends[1]) / 2e-5) < 1e-6 * norm
    at = Batch(images, labels)
    slope = (loss(at, log_t + 1e-5) - loss(at, log_t - 1e-5)) / 2e-5
    assert float(direct.log_temperature) == pytest.approx(slope, rel=1e-5)


def test_the_inner_problems_of_a_step_are_solved_towards_the_exact_solution() -> None:
    real = real_data()
    algorithm = rcig(real, inner_steps=100, inner_lr=0.1)
    network = Linearised(
        algorithm.task.new_backbone(Streams(0)["backbone"]).eval(), algorithm.task.engine
    )
    with torch.no_grad():
        items = images_set(real).all()
    inputs = algorithm._inputs(items)
    problem = InnerProblem(network, *inputs, penalty=algorithm._penalty(items))
    first = problem.gradient(network.zero())[1]
    tangent = algorithm._inner(problem.gradient, network.zero())
    assert float(problem.gradient(tangent)[1].norm()) < 0.1 * float(first.norm())


def leaves(real: RealData) -> tuple[SyntheticDataset, Batch, Callable[[float], Batch]]:
    synthetic = poster_set(real)
    expanded = synthetic.all()

    def items(scale: float) -> Batch:
        return Batch(*(scale * torch.ones_like(part).cumsum(0).cumsum(-1) for part in expanded))

    return synthetic, expanded, items


@pytest.mark.parametrize(
    ("size", "total", "scale"),
    [(0.5, 1.5, 1.0), (4.0, 2.0, 0.25), (float("nan"), 1.0, 0.0), (0.0, 1.0, 1.0)],
)
def test_the_implicit_gradient_is_bounded_by_the_direct_one(
    size: float, total: float, scale: float
) -> None:
    synthetic, expanded, items = leaves(real_data())
    expected = torch.autograd.grad(
        expanded, list(synthetic.parameters()), list(items(1.0)), retain_graph=True
    )
    assert leave_both(synthetic, expanded, items(1.0), items(size)) == pytest.approx(scale)
    for parameter, wanted in zip(synthetic.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, total * wanted)


@pytest.mark.parametrize("implicit", [0.0, 1.0])
def test_without_a_direct_gradient_the_bound_is_zero_and_not_zero_by_zero(implicit: float) -> None:
    """The published code divides one norm by the other, and filters the NaN of 0 / 0."""
    synthetic, expanded, items = leaves(real_data())
    assert leave_both(synthetic, expanded, items(0.0), items(implicit)) == 0.0
    for parameter in synthetic.parameters():
        assert parameter.grad is not None
        assert not bool(parameter.grad.any())  # NaN would count as something


def test_a_member_gets_a_drawn_number_of_updates_on_the_updated_data() -> None:
    real = real_data()
    synthetic = images_set(real)
    algorithm, rng = rcig(real, pool=1, most_updates=4), Streams(0)
    ages = [algorithm.outer_step(synthetic, step=step, rng=rng)["age"] for step in range(8)]
    updates = [int(after - before) for before, after in itertools.pairwise(ages)]
    assert ages[0] == 0
    assert set(updates) <= {1, 2, 3, 4}
    assert len(set(updates)) > 1


def test_old_members_are_replaced() -> None:
    real = real_data()
    synthetic = images_set(real)
    algorithm, rng = rcig(real, pool=1, max_updates=5, most_updates=3), Streams(0)
    ages = [algorithm.outer_step(synthetic, step=step, rng=rng)["age"] for step in range(9)]
    assert max(ages) < 5
    assert ages.count(0) > 1


def run(algorithm: Rcig, synthetic: SyntheticDataset, rng: Streams, steps: range) -> list[float]:
    groups = {**synthetic.groups(), "algorithm": list(algorithm.meta_parameters())}
    optimizer, losses = algorithm.outer_optimizer(groups), []
    for step in steps:
        optimizer.zero_grad()
        losses.append(algorithm.outer_step(synthetic, step=step, rng=rng)["loss"])
        optimizer.step()
        synthetic.project()
    return losses


def test_a_resumed_run_goes_on_bit_for_bit() -> None:
    real = real_data()

    def start() -> tuple[Rcig, SyntheticDataset, Streams]:
        return rcig(real, pool=2, max_updates=20), images_set(real), Streams(0)

    straight, other = start(), start()
    run(*straight, range(3))
    for old, new in zip(straight, other, strict=True):
        new.load_state_dict(copied(old.state_dict()))
    other[0]._log_temperature.data.copy_(straight[0]._log_temperature.data)
    assert run(*straight, range(3, 6)) == run(*other, range(3, 6))
    assert equal(other[0].state_dict(), straight[0].state_dict())
    assert equal(dict(other[1].state_dict()), dict(straight[1].state_dict()))


def test_it_keeps_the_contract_with_other_options() -> None:
    short = {**SHORT, "inner_steps": 3, "inverse_steps": 3, "inner_lr": 0.1, "most_updates": 3}
    other = {"flip": False, "margin": True, "max_updates": 2}
    options = check_options(RcigOptions, {**short, **other}, where="algo")
    check_algorithm(partial(Rcig, options), name="rcig")


def test_the_margin_goes_to_the_labels_alone() -> None:
    real = real_data()
    found = []
    for margin in (False, True):
        synthetic = images_set(real)
        with torch.no_grad():  # every first class leads, by less than 1/(2K)
            for parameter in synthetic.groups()["labels"]:
                parameter.copy_(0.05 * torch.eye(6)[synthetic.all().labels.argmax(1)] + 1 / 6)
        loss = rcig(real, margin=margin).outer_step(synthetic, step=0, rng=Streams(0))["loss"]
        found.append((loss, [p.grad for p in synthetic.parameters()]))
    assert found[1][0] < found[0][0]
    assert found[0][1][1] is not None
    assert found[1][1][1] is not None
    assert not torch.equal(found[0][1][1], found[1][1][1])


def test_mirrored_copies_are_the_default_where_the_dataset_allows_them() -> None:
    real = real_data()
    digits = replace(real, spec=replace(real.spec, augmentations=("rotate",)))
    assert rcig(real)._flips
    assert not rcig(digits)._flips
    assert not rcig(real, flip=False)._flips
    with pytest.raises(OptionError, match="mirrored images of 'small' do not keep their class"):
        rcig(digits, flip=True)


def test_too_many_items_are_refused_before_any_work() -> None:
    real = real_data()
    algorithm = rcig(real, max_items=20)
    with pytest.raises(InputError, match="24 training images, mirrored copies included") as caught:
        algorithm.outer_step(images_set(real), step=0, rng=Streams(0))
    assert "algo.flip=false" in caught.value.next
    assert algorithm.state_dict()["pool"] == []


def test_the_outer_optimizer_has_a_rate_for_each_group() -> None:
    real = real_data()
    algorithm = rcig(real, label_lr=0.2)
    groups = {**images_set(real).groups(), "algorithm": list(algorithm.meta_parameters())}
    optimizer = algorithm.outer_optimizer(groups)
    assert isinstance(optimizer, AdaBelief)
    assert [group["lr"] for group in optimizer.param_groups] == [3e-3, 0.2, 3e-2]
    with pytest.raises(InputError, match="there is nothing to learn"):
        algorithm.outer_optimizer({"algorithm": list(algorithm.meta_parameters())})


def test_it_learns() -> None:
    """After fifteen outer steps the loss is a quarter lower."""
    real = real_data()
    algorithm = rcig(real, pixel_lr=0.03, pool=2, inner_steps=20, inverse_steps=20)
    losses = run(algorithm, images_set(real), Streams(0), range(15))
    assert losses[-1] < 3 / 4 * losses[0]
