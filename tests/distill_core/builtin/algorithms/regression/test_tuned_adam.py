"""Adam at a rate that tunes itself: against PyTorch's, and when the rate moves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.builtin.algorithms.regression.tuned_adam import (
    BACK,
    GROW,
    MOST_GROWTHS,
    PERIOD,
    TunedAdam,
    minimise,
)

SCALES = torch.tensor([1.0, 3.0], dtype=torch.float64)
GOAL = torch.tensor([1.0, -2.0], dtype=torch.float64)

START = torch.zeros(2, dtype=torch.float64)


def quadratic(point: Tensor) -> tuple[Tensor, Tensor]:
    gradient = SCALES * (point - GOAL)
    return 0.5 * gradient @ (point - GOAL), gradient


def test_the_steps_are_those_of_torch() -> None:
    run = minimise(quadratic, START, rate=0.1, steps=5)
    known = torch.nn.Parameter(START.clone())
    optimizer = torch.optim.Adam([known], 0.1)
    for _ in range(5):
        known.grad = quadratic(known.detach())[1]
        optimizer.step()
    assert torch.allclose(run.point, known)
    assert run.monotone
    assert not run.worse
    assert len(run.values) == 6
    assert run.values[-1] == float(quadratic(run.point)[0])


def test_the_first_rate_is_just_below_the_largest_that_always_descends() -> None:
    tuned = TunedAdam(1e-3, steps=10)
    tuned(quadratic, START)
    fits = minimise(quadratic, START, rate=tuned.rate, steps=10)
    beyond = minimise(quadratic, START, rate=tuned.rate / 0.7, steps=10)
    assert fits.monotone
    assert not beyond.monotone


@given(st.floats(1e-6, 10))
def test_the_first_rate_is_that_of_trying_them_upwards(first: float) -> None:
    rate, growths = first, 0
    while growths < MOST_GROWTHS and minimise(quadratic, START, rate=rate, steps=5).monotone:
        rate, growths = rate * GROW, growths + 1
    tuned = TunedAdam(first, steps=5)
    tuned(quadratic, START)
    assert tuned.rate == pytest.approx(rate * BACK)


def test_few_searches_find_it() -> None:
    asked = []

    def counted(point: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(point)
        return quadratic(point)

    TunedAdam(1e-5, steps=10)(counted, START)
    assert len(asked) <= 8 * (10 + 1)  # seven searches among 80 rates, and the run itself


@pytest.mark.parametrize(("start", "factor"), [(1e-3, 1.05), (1e3, 0.9)])
def test_the_rate_follows_what_happened(start: float, factor: float) -> None:
    tuned = TunedAdam(start, steps=3)
    tuned.load_state_dict({"rate": start, "tuned": True, "counts": [0, 0, 0]})
    for _ in range(PERIOD - 1):
        tuned(quadratic, START)
    assert tuned.rate == start
    tuned(quadratic, START)
    assert tuned.rate == pytest.approx(start * factor)
    assert tuned.state_dict()["counts"] == [0, 0, 0]


def test_values_that_are_no_numbers_count_as_worse() -> None:
    def broken(point: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor(float("nan")), torch.zeros_like(point)

    run = minimise(broken, torch.zeros(2), rate=1.0, steps=1)
    assert run.worse
    assert not run.monotone
