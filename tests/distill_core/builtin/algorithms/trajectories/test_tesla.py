"""TESLA's gradient against the graph of all steps with the parameters between them detached."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distill_core.builtin.algorithms.trajectories.mtt import Mtt
from distill_core.builtin.algorithms.trajectories.options import MttOptions, TeslaOptions
from distill_core.builtin.algorithms.trajectories.tesla import Tesla
from distill_core.contracts.data import RealData
from distill_core.contracts.streams import Streams
from registry import check_options
from tests.distill_core.builtin.algorithms.trajectories.test_mtt import (
    SMALL,
    SMOOTH,
    compare,
    mtt,
    real_data,
    task,
)
from tests.distill_core.builtin.algorithms.unrolled.test_ratbptt import SETS, gradients, poster_set


def tesla(real: RealData, **settings: Any) -> Tesla:
    options = check_options(TeslaOptions, {**SMALL, **settings}, where="algo")
    made = Tesla(options, task=task(real))
    made.log_rate.data = made.log_rate.data.double()
    return made


@pytest.mark.parametrize("kind", SETS)
def test_it_equals_the_graph_with_constants_between_the_steps(kind: str) -> None:
    real = real_data()
    compare(tesla(real, **SMOOTH), SETS[kind](real), detach=True)


def one_step(algorithm: Mtt) -> list[torch.Tensor]:
    synthetic = poster_set(algorithm.task.real)
    algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    assert algorithm.log_rate.grad is not None
    return [*gradients(synthetic), algorithm.log_rate.grad]


@pytest.mark.parametrize(("steps", "same"), [(1, True), (5, False)])
def test_it_is_mtts_gradient_for_one_step_alone(steps: int, same: bool) -> None:
    real = real_data()
    settings = {**SMOOTH, "syn_steps": steps, "max_start": 2}
    first, exact = one_step(tesla(real, **settings)), one_step(mtt(real, **settings))
    for one, other in zip(first, exact, strict=True):
        scale = float(other.abs().max())
        assert (float((one - other).abs().max()) < 1e-9 * scale) == same


def test_the_factor_that_published_code_loses() -> None:
    """It doubles a tuple of gradients in place of the gradient: pixels get half, the rate all."""
    real = real_data()
    *whole, rate = one_step(tesla(real, **SMOOTH))
    *half, same_rate = one_step(tesla(real, grad_scale=0.5, **SMOOTH))
    assert torch.equal(rate, same_rate)
    for one, other in zip(whole, half, strict=True):
        assert torch.allclose(one, 2 * other, rtol=1e-12)


def test_published_defaults() -> None:
    few = TeslaOptions().resolve_defaults(num_classes=10, side=32)
    assert (few.syn_steps, few.max_start, few.pixel_lr, few.rate_lr) == (50, 5, 1000, 1e-7)
    assert few.label_lr == 1  # not a hundredth of so high a rate for pixels, which ruins labels
    many = TeslaOptions().resolve_defaults(num_classes=100, side=32)
    assert many == MttOptions().resolve_defaults(num_classes=100, side=32)
