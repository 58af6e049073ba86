"""Clipping by the moving average of the norm."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from distill_core.engine.clipping import EmaClip, clip_norm, gradient_norm


def with_gradient(*values: float) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(len(values), dtype=torch.float64))
    parameter.grad = torch.tensor(values, dtype=torch.float64)
    return parameter


def test_the_published_rule() -> None:
    clip = EmaClip(0.9, 2.0)
    first = with_gradient(0.6, 0.8)
    assert clip([first]) == (pytest.approx(1.0), False)
    assert clip.ema == pytest.approx(1.0)
    assert first.grad is not None
    assert first.grad.tolist() == [0.6, 0.8]
    second = with_gradient(6.0, 8.0)
    assert clip([second]) == (pytest.approx(10.0), True)
    assert clip.ema == pytest.approx(1.9)
    assert second.grad is not None
    assert gradient_norm([second]) == pytest.approx(3.8)
    assert float(second.grad[1] / second.grad[0]) == pytest.approx(8 / 6)


def test_a_group_is_clipped_as_one_vector() -> None:
    clip = EmaClip(0.5, 1.0)
    clip([with_gradient(1.0)])
    group = [with_gradient(3.0), with_gradient(0.0, 4.0), nn.Parameter(torch.zeros(2))]
    assert clip(group) == (pytest.approx(5.0), True)
    assert group[0].grad is not None
    assert float(group[0].grad) == pytest.approx(3 * 3 / 5)
    assert group[2].grad is None


def test_a_norm_that_is_not_finite_is_left_to_the_engine() -> None:
    clip = EmaClip(0.9, 2.0)
    clip([with_gradient(1.0)])
    broken = with_gradient(math.inf, 1.0)
    assert clip([broken]) == (math.inf, False)
    assert clip.ema == 1.0
    assert broken.grad is not None
    assert broken.grad.tolist() == [math.inf, 1.0]


def test_without_gradients_the_norm_is_zero() -> None:
    assert gradient_norm([nn.Parameter(torch.ones(2))]) == 0.0
    assert EmaClip(0.9, 2.0)([nn.Parameter(torch.ones(2))]) == (0.0, False)


def test_a_spike_that_does_not_count_cannot_raise_its_own_bound() -> None:
    clip = EmaClip(0.9, 2.0, spikes_count=False)
    clip([with_gradient(1.0)])
    spike = with_gradient(600.0, 800.0)
    assert clip([spike]) == (pytest.approx(1000.0), True)
    assert gradient_norm([spike]) == pytest.approx(2.0)
    assert clip.ema == pytest.approx(0.9 + 0.1 * 2)


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=20), st.floats(1, 4), st.floats(0, 0.99))
def test_a_bounded_average_rises_slowly(norms: list[float], factor: float, decay: float) -> None:
    clip = EmaClip(decay, factor, spikes_count=False)
    clip([with_gradient(norms[0])])
    for norm in norms[1:]:
        past, parameter = clip.ema, with_gradient(norm)
        assert past is not None
        clip([parameter])
        assert gradient_norm([parameter]) == pytest.approx(min(norm, factor * past))
        assert clip.ema is not None
        assert clip.ema <= past * (1 + (1 - decay) * (factor - 1)) * (1 + 1e-9)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_no_gradient_leaves_longer_than_twice_the_average(norms: list[float]) -> None:
    clip = EmaClip(0.9, 2.0)
    for norm in norms:
        parameter = with_gradient(norm)
        found, clipped = clip([parameter])
        assert clip.ema is not None
        assert found == pytest.approx(norm)
        assert clipped == (norm > 2 * clip.ema)
        assert gradient_norm([parameter]) <= 2 * clip.ema * (1 + 1e-9)


def test_a_fixed_bound_holds_for_all_parameters_together() -> None:
    one, other = with_gradient(3.0), with_gradient(0.0, 4.0)
    assert not clip_norm([one, other], 5.0)
    assert clip_norm([one, other], 2.5)
    assert one.grad is not None
    assert other.grad is not None
    assert (one.grad.tolist(), other.grad.tolist()) == ([1.5], [0.0, 2.0])


@pytest.mark.parametrize("broken", [math.inf, math.nan])
def test_a_fixed_bound_leaves_what_is_not_finite(broken: float) -> None:
    one, other = with_gradient(3.0), with_gradient(broken)
    assert not clip_norm([one, other], 1.0)
    assert one.grad is not None
    assert one.grad.tolist() == [3.0]
