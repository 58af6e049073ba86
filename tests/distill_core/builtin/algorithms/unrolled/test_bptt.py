"""BPTT: the same hypergradient as RaT-BPTT's over everything, balanced draws, joint clipping."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from distill_core.builtin.algorithms.unrolled.bptt import Bptt
from distill_core.builtin.algorithms.unrolled.inner_loop import balanced_index
from distill_core.builtin.algorithms.unrolled.options import BpttOptions
from distill_core.builtin.backbones.convnet import ConvNet
from distill_core.contracts.algorithm import Task
from distill_core.contracts.data import RealData
from distill_core.contracts.streams import Streams, seeded
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.testing import check_algorithm
from registry import InputError, check_options
from tests.distill_core.builtin.algorithms.unrolled.test_ratbptt import (
    SETS,
    SMOOTH,
    gradients,
    images_set,
    poster_set,
    ratbptt,
    real_data,
)


def bptt(real: RealData, **settings: Any) -> Bptt:
    def fresh(generator: torch.Generator) -> Any:
        return new_backbone(
            lambda: ConvNet(SMOOTH, spec=real.spec).double(), generator, torch.device("cpu")
        )

    options = check_options(BpttOptions, {"steps": 3, **settings}, where="algo")
    return Bptt(options, task=Task(real, fresh, Engine()))


@pytest.mark.parametrize("kind", SETS)
def test_it_is_ratbptt_with_a_window_over_everything(kind: str) -> None:
    """Bit for bit; ratbptt is tested against graphs and central differences."""
    real = real_data()
    ours, theirs = SETS[kind](real), SETS[kind](real)
    shared = {"batch": 5, "augment": "flip_rotate", "weight_decay": 0.01}
    found = bptt(
        real, clip_norm=1e6, real_per_class=1000, coverage_normalize=False, **shared
    ).outer_step(ours, step=0, rng=Streams(0))
    other = ratbptt(
        real,
        window=3,
        total=3,
        curriculum="none",
        inner_optimizer="sgd",
        real_batch=10_000,
        clip=False,
        **shared,
    ).outer_step(theirs, step=0, rng=Streams(0))
    assert found["loss"] == other["loss"]
    assert found["clipped"] == 0
    for one, twin in zip(gradients(ours), gradients(theirs), strict=True):
        assert torch.equal(one, twin)
        assert bool(one.any())


def test_pixels_and_labels_are_clipped_together() -> None:
    real = real_data()
    free, held = images_set(real), images_set(real)
    metrics = bptt(real, clip_norm=1e6).outer_step(free, step=0, rng=Streams(0))
    norm = (metrics["grad_norm"] ** 2 + metrics["label_grad_norm"] ** 2) ** 0.5
    bound = norm / 3
    clipped = bptt(real, clip_norm=bound).outer_step(held, step=0, rng=Streams(0))
    assert clipped["clipped"] == 1
    assert clipped["grad_norm"] == metrics["grad_norm"]  # before clipping
    for one, whole in zip(gradients(held), gradients(free), strict=True):
        assert torch.allclose(one, whole / 3)


def test_pixels_at_the_border_get_as_much_as_those_inside() -> None:
    """And the norm that is bounded is that of the gradient that is used."""
    real = real_data()
    plain, normal, held = (poster_set(real) for _ in range(3))
    bptt(real, clip_norm=None, coverage_normalize=False).outer_step(plain, step=0, rng=Streams(0))
    metrics = bptt(real, clip_norm=None).outer_step(normal, step=0, rng=Streams(0))
    (coverage,) = plain.coverage()
    wanted = gradients(plain)[0] / (coverage / coverage.mean())
    assert not torch.allclose(wanted, gradients(plain)[0])
    assert torch.allclose(gradients(normal)[0], wanted, rtol=1e-12)
    assert metrics["grad_norm"] == pytest.approx(float(wanted.norm()))
    whole = torch.cat([each.flatten() for each in gradients(normal)]).norm()
    bptt(real, clip_norm=float(whole) / 2).outer_step(held, step=0, rng=Streams(0))
    for one, other in zip(gradients(held), gradients(normal), strict=True):
        assert torch.allclose(one, other / 2)


def test_real_images_are_drawn_alike_from_every_class() -> None:
    labels = torch.tensor([0] * 9 + [2] * 3 + [1] * 7)
    drawn = balanced_index(labels, 4, generator=seeded(0, "real"))
    assert labels[drawn].bincount().tolist() == [4, 4, 3]
    assert len(drawn.unique()) == len(drawn)
    assert torch.equal(balanced_index(labels, 9, generator=seeded(0, "x")), torch.arange(19))
    assert not torch.equal(balanced_index(labels, 4, generator=seeded(1, "real")), drawn)


def test_it_keeps_the_contract() -> None:
    options = check_options(BpttOptions, {"steps": 2, "batch": 3, "balanced": True}, where="algo")
    check_algorithm(partial(Bptt, options), name="bptt")


def test_the_outer_optimizer_is_sgd_with_momentum() -> None:
    real = real_data()
    groups = images_set(real).groups()
    optimizer = bptt(real, label_lr=0.3).outer_optimizer(groups)
    assert isinstance(optimizer, torch.optim.SGD)
    assert [(g["name"], g["lr"], g["momentum"]) for g in optimizer.param_groups] == [
        ("data", 0.1, 0.5),
        ("labels", 0.3, 0.5),
    ]
    with pytest.raises(InputError, match="there is nothing to learn"):
        bptt(real).outer_optimizer({})


def test_the_published_settings_are_the_defaults() -> None:
    options = BpttOptions()
    assert (options.steps, options.inner_lr, options.momentum) == (150, 0.01, 0.9)
    assert (options.real_per_class, options.clip_norm, options.augment) == (64, 2.0, "none")
    recipe = bptt(real_data()).recipe()
    assert (recipe.optimizer, recipe.lr, recipe.momentum) == ("sgd", 0.01, 0.9)
    assert (recipe.steps, recipe.augment) == (300, "none")
