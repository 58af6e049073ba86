"""FRePo: its gradient against a dense formula and central differences, its order, its state."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.builtin.algorithms.regression.frepo import Frepo
from distill_core.builtin.algorithms.regression.options import FrepoOptions
from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.builtin.representations.images import Images, ImagesOptions
from distill_core.contracts.algorithm import Task
from distill_core.contracts.data import RealData
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.engine.clipping import gradient_norm
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.system.memory import PeakBytes
from distill_core.system.state_tree import copied
from distill_core.testing import check_algorithm
from distill_core.testing.assertions import equal
from distill_core.testing.small import small_data
from registry import InputError, OptionError, check_options
from tests.distill_core.builtin.algorithms.unrolled.test_ratbptt import (
    SMOOTH,
    images_set,
    join,
    poster_set,
    real_data,
    slopes,
)

SETS = {"images": images_set, "poster": poster_set}


def make_task(
    real: RealData, engine: Engine | None = None, backbone: ConvNetOptions = SMOOTH
) -> Task:
    def fresh(generator: torch.Generator) -> Backbone:
        return new_backbone(
            lambda: ConvNet(backbone, spec=real.spec).double(), generator, torch.device("cpu")
        )

    return Task(real, fresh, engine or Engine())


def frepo(real: RealData, engine: Engine | None = None, **settings: Any) -> Frepo:
    options = check_options(FrepoOptions, {"pool": 3, "real_batch": 40, **settings}, where="algo")
    return Frepo(options, task=make_task(real, engine))


def dense_loss(algorithm: Frepo, synthetic: SyntheticDataset, *, flip: bool, ridge: float) -> float:
    """The published formula for the member and the batch of the first step of seed 0."""
    rng, real = Streams(0), algorithm.task.real
    place = int(torch.randint(3, (), generator=rng["pool"]))
    backbone = algorithm._pool.members[place].backbone
    index = real.train.draw(40, generator=rng["real"])
    with torch.no_grad():
        images, labels = synthetic.all()
        targets = (labels - 1 / 6) / (6 / 10) ** 0.5
        if flip:
            images = torch.cat([images, torch.flip(images, [3])])
            targets = torch.cat([targets, targets])
        known, asked = backbone.embed(images), backbone.embed(real.train.images[index])
        kernel = known @ known.T
        kernel += ridge * kernel.trace() / len(kernel) * torch.eye(len(kernel)).double()
        predictions = asked @ known.T @ torch.linalg.inv(kernel) @ targets
        wanted = torch.eye(6).double()[real.train.labels[index]] - 1 / 6
        return float((predictions - wanted).square().sum(1).mean())


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("flip", [True, False])
def test_the_hypergradient_agrees_with_central_differences(kind: str, flip: bool) -> None:
    real = real_data()
    synthetic = SETS[kind](real)
    algorithm = frepo(real, Engine(real_chunk=11, microbatch=5), flip=flip, ridge=1e-2)
    metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(0))

    def loss() -> float:
        return dense_loss(algorithm, synthetic, flip=flip, ridge=1e-2)

    assert metrics["ridge"] == 1e-2
    assert metrics["loss"] == pytest.approx(loss(), rel=1e-9)
    assert set(synthetic.groups()) == {"data", "labels"}
    for group, parameters in synthetic.groups().items():
        norm = gradient_norm(parameters)
        assert norm > 1e-4
        for seed in range(2):
            slope, measured = slopes(synthetic, group, loss, seed=seed, size=1e-5)
            assert abs(slope - measured) < 1e-6 * norm
    members = algorithm._pool.members
    assert all(p.grad is None for member in members for p in member.backbone.parameters())


def test_the_margin_is_an_option_and_goes_to_the_labels_alone() -> None:
    real = real_data()
    found = []
    for margin in (False, True):
        synthetic = images_set(real)
        with torch.no_grad():  # every first class leads, by less than 1/K
            for parameter in synthetic.groups()["labels"]:
                parameter.copy_(0.1 * torch.eye(6)[synthetic.all().labels.argmax(1)] + 1 / 6)
        loss = frepo(real, margin=margin).outer_step(synthetic, step=0, rng=Streams(0))["loss"]
        groups = synthetic.groups()
        found.append((loss, *(grads(groups[name]) for name in ("data", "labels"))))
    assert found[1][0] < found[0][0]
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][2], found[1][2])


def grads(parameters: list[torch.nn.Parameter]) -> Tensor:
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


def test_a_member_is_trained_on_the_updated_data_before_the_next_gradient() -> None:
    real = real_data()
    synthetic = images_set(real)
    algorithm = frepo(real, pool=1, online_lr=0.01)
    rng = Streams(0)
    algorithm.outer_step(synthetic, step=0, rng=rng)
    member = algorithm._pool.members[0]
    assert member.age == 0
    known = make_task(real).new_backbone(Streams(0)["backbone"])
    optimizer = torch.optim.Adam(known.parameters(), 0.01)
    with torch.no_grad():
        for parameter in synthetic.parameters():
            parameter.mul_(1.1)
        images, labels = synthetic.all()
    error = (known(images) - (labels - 1 / 6) / 0.6**0.5).square().sum(1).mean()
    error.backward()
    optimizer.step()
    algorithm.outer_step(synthetic, step=1, rng=rng)
    assert member.age == 1
    for found, expected in zip(member.backbone.parameters(), known.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_members_age_and_are_replaced() -> None:
    real = real_data()
    synthetic = images_set(real)
    algorithm = frepo(real, pool=2, max_updates=3, real_batch=10)
    rng, ages = Streams(0), []
    for step in range(12):
        ages.append(algorithm.outer_step(synthetic, step=step, rng=rng)["age"])
    assert ages[0] in (0, 1)
    assert set(ages) == {0, 1, 2}


def test_a_resumed_run_goes_on_bit_for_bit() -> None:
    real = small_data()

    def run(algorithm: Frepo, synthetic: SyntheticDataset, rng: Streams, steps: range) -> Tensor:
        optimizer = algorithm.outer_optimizer(synthetic.groups())
        for step in steps:
            optimizer.zero_grad()
            algorithm.outer_step(synthetic, step=step, rng=rng)
            with torch.no_grad():  # no state of an outer optimizer here
                for parameter in synthetic.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.01 * parameter.grad.sign())
            synthetic.project()
        return torch.cat([p.detach().flatten() for p in synthetic.parameters()])

    def start() -> tuple[Frepo, SyntheticDataset, Streams]:
        options = FrepoOptions(pool=2, max_updates=2, online_batch=5, real_batch=20)
        norm = ConvNetOptions(width=4, norm="batch")
        return Frepo(options, task=make_task(real, backbone=norm)), images_set(real), Streams(0)

    real = real_data()
    straight = start()
    expected = run(*straight, range(8))
    first, other = start(), start()
    run(*first, range(5))
    for old, new in zip(first, other, strict=True):
        new.load_state_dict(copied(old.state_dict()))
    assert torch.equal(run(*other, range(5, 8)), expected)
    assert equal(other[0].state_dict(), straight[0].state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        {"max_updates": 1},
        {"pool": 2, "flip": False, "ridge": 1e-3, "online_batch": 4},
        {"margin": True, "real_batch": 7},
    ],
)
def test_it_keeps_the_contract(settings: dict[str, Any]) -> None:
    options = check_options(FrepoOptions, {"pool": 3, **settings}, where="algo")
    check_algorithm(partial(Frepo, options), name="frepo")


def test_chunks_change_nothing() -> None:
    real = real_data()
    results = []
    for engine in (Engine(real_chunk=40), Engine(real_chunk=7, microbatch=5)):
        synthetic = poster_set(real)
        algorithm, rng = frepo(real, engine, pool=1), Streams(0)
        for step in range(2):
            synthetic.zero_grad()
            metrics = algorithm.outer_step(synthetic, step=step, rng=rng)
        results.append((metrics["loss"], grads(list(synthetic.parameters()))))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-9)


def test_mirrored_copies_are_the_default_up_to_one_image_per_class() -> None:
    real = real_data()
    one = join(real, Images(ImagesOptions(), spec=real.spec, ipc=1), labeler())
    assert frepo(real)._flips(one)
    assert not frepo(real)._flips(images_set(real))  # two images per class
    assert frepo(real, flip=True)._flips(images_set(real))
    digits = replace(real, spec=replace(real.spec, augmentations=("rotate",)))
    assert not frepo(digits)._flips(one)
    with pytest.raises(OptionError, match="mirrored images of 'small' do not keep their class"):
        frepo(digits, flip=True)


def labeler() -> Any:
    from distill_core.builtin.labelers.soft import Soft
    from registry import Options

    return lambda placement: Soft(Options(), placement=placement)


def test_the_ridge_is_larger_where_training_images_share_pixels() -> None:
    real = real_data()
    assert frepo(real)._ridge(images_set(real)) == 1e-6
    assert frepo(real)._ridge(poster_set(real)) == 1e-4
    assert frepo(real, ridge=1e-3)._ridge(poster_set(real)) == 1e-3


def test_too_many_items_are_refused_before_any_work() -> None:
    real = real_data()
    synthetic = images_set(real)
    algorithm = frepo(real, max_items=20, flip=True)
    for action in (
        lambda: algorithm.outer_step(synthetic, step=0, rng=Streams(0)),
        lambda: algorithm.estimate(synthetic, rng=Streams(0)),
    ):
        with pytest.raises(InputError) as caught:
            action()
        assert "regression on 24 training images, mirrored copies included," in caught.value.what
        assert caught.value.expected == "at most algo.max_items = 20."
        assert "algo.flip=false" in caught.value.next
    assert algorithm.state_dict() == {"pool": [], "used": None}
    frepo(real, max_items=20).outer_step(synthetic, step=0, rng=Streams(0))


def test_the_outer_optimizer_has_a_rate_for_each_group() -> None:
    real = real_data()
    groups = images_set(real).groups()
    optimizer = frepo(real, pixel_lr=0.3).outer_optimizer(groups)
    assert isinstance(optimizer, torch.optim.Adam)
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.3]
    optimizer = frepo(real, label_lr=0.2).outer_optimizer(groups)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 0.2]
    with pytest.raises(InputError, match="there is nothing to learn"):
        frepo(real).outer_optimizer({})


def test_any_labels_will_do() -> None:
    assert not Frepo.needs_simplex


def test_the_estimate_has_phases_and_leaves_no_trace() -> None:
    real = real_data()
    synthetic = poster_set(real)
    algorithm = frepo(real)
    estimate = algorithm.estimate(synthetic, rng=Streams(0))
    assert set(estimate.phases) == {"online update", "real features", "regression and way back"}
    assert all(parameter.grad is None for parameter in synthetic.parameters())
    assert algorithm.state_dict() == {"pool": [], "used": None}
    with PeakBytes() as memory:
        algorithm.outer_step(synthetic, step=0, rng=Streams(0))
        before_a_step = copied(algorithm.state_dict())  # as the outer loop does
        algorithm.outer_step(synthetic, step=1, rng=Streams(0))
    assert before_a_step["pool"]
    assert estimate.memory == pytest.approx(memory.peak, rel=0.25)


def test_it_learns() -> None:
    """After thirty outer steps the regression is better by a third."""
    real = real_data()
    synthetic = images_set(real)
    algorithm = frepo(real, pixel_lr=0.05, real_batch=1000)
    optimizer, rng = algorithm.outer_optimizer(synthetic.groups()), Streams(0)
    losses = []
    for step in range(30):
        optimizer.zero_grad()
        losses.append(algorithm.outer_step(synthetic, step=step, rng=rng)["loss"])
        optimizer.step()
        synthetic.project()
    assert sum(losses[-3:]) < 2 / 3 * sum(losses[:3])
