"""Notices of a finished run."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.contracts.recipes import Recipe
from distill_core.evaluation.evaluate import Result
from distill_core.run.notices import SPIKE, loss_rose, not_better, notices, spikes

RECIPE = Recipe(optimizer="adam", lr=0.01, batch_size=1, steps=1)


def falling(steps: int, *, noise: float = 0.0) -> list[float]:
    rng = random.Random(0)
    return [2 * math.exp(-5 * k / steps) + rng.gauss(0, noise) for k in range(steps)]


def result(*accuracies: float) -> Result:
    return Result(accuracies, {}, RECIPE, 0.0)


def test_a_loss_that_only_falls_says_nothing() -> None:
    assert loss_rose(falling(300)) is None
    assert loss_rose(falling(300, noise=0.3)) is None
    assert loss_rose([1.0] * 300) is None


def test_a_loss_that_ends_far_above_its_low_is_said_with_figures() -> None:
    losses = [2 - 0.005 * k for k in range(300)] + [1.5] * 100  # 2 to 0.5, then 1.5
    notice = loss_rose(losses)
    assert notice is not None
    assert "1.5 in the last 20 outer steps, 0.552 in those to step 300" in notice.what
    assert "--steps 300" in notice.next


def test_a_rise_within_the_noise_is_none() -> None:
    rng = random.Random(1)
    assert loss_rose([rng.gauss(1.0, 0.5) for _ in range(400)]) is None


def test_a_short_run_has_no_course() -> None:
    assert loss_rose([2.0, 1.0, 9.0, 9.0]) is None
    assert loss_rose([]) is None


@given(
    st.lists(st.floats(0, 10), min_size=15, max_size=120),
    st.floats(0.1, 100),
    st.integers(-50, 50),
)
def test_units_of_the_loss_do_not_matter(losses: list[float], scale: float, shift: int) -> None:
    rounded = [round(loss, 1) for loss in losses]
    same = [scale * loss + shift for loss in rounded]
    parts = loss_rose(rounded), loss_rose(same)
    if (parts[0] is None) != (parts[1] is None):  # then it lies on the bound itself
        near = [*rounded[:-1], rounded[-1] + 1e-6], [*rounded[:-1], rounded[-1] - 1e-6]
        assert len({loss_rose(each) is None for each in near}) == 2 or fall_is_rounding(rounded)


def fall_is_rounding(losses: list[float]) -> bool:
    return max(losses) - min(losses) < 1e-6


def norms(*values: float, name: str = "applied_labels") -> list[dict[str, float]]:
    return [{"step": k + 1, name: value} for k, value in enumerate(values)]


def test_a_spike_is_named_with_its_step_and_size() -> None:
    steps = norms(*[1.0] * 60, 100.0, *[1.0] * 20, 60.0, 1.0)
    ways = {"labels": ["-o algo.bound=true"], "data": ["-o algo.other=true"]}
    (notice,) = spikes(steps, ways)
    assert "group 'labels' spiked 2 times" in notice.what
    assert "outer step 61, was 100 times as long as usual" in notice.what
    assert notice.next == "-o algo.bound=true, or a smaller learning rate."


def test_gradients_that_shrink_or_grow_slowly_are_no_spikes() -> None:
    assert not list(spikes(norms(*(1e6 * 0.9**k for k in range(300)))))
    assert not list(spikes(norms(*(1.1**k for k in range(300)))))
    assert not list(spikes(norms(*[0.0] * 100, 5.0)))  # a group that had none until now
    assert not list(spikes(norms(*[1.0] * 60, SPIKE)))


def test_other_metrics_are_not_gradients() -> None:
    assert not list(spikes(norms(*[1.0] * 60, 1e9, name="grad_norm")))


@pytest.mark.parametrize(
    ("distilled", "random", "better"),
    [
        ((0.8, 0.82, 0.81), (0.6, 0.62, 0.58), True),
        ((0.6, 0.7, 0.5), (0.6, 0.55, 0.62), False),  # within two standard errors
        ((0.5, 0.5, 0.5), (0.6, 0.6, 0.6), False),
        ((0.9,), (0.8,), True),
        ((0.8,), (0.8,), False),
        ((1.0,), (1.0,), True),  # nothing can be better
    ],
)
def test_better_than_real_images_or_not(
    distilled: tuple[float, ...], random: tuple[float, ...], better: bool
) -> None:
    notice = not_better({"distilled": result(*distilled), "random": result(*random)})
    assert (notice is None) == better


def test_better_by_pixels_may_be_no_better_by_bytes() -> None:
    results = {"distilled": result(0.7), "random": result(0.6), "random_bytes": result(0.8)}
    assert not_better({**results, "random_bytes": result(0.6)}) is None
    assert "real images of as many bytes: 70.00 % and 80.00 %" in str(not_better(results))


def test_without_the_control_nothing_is_said() -> None:
    assert not_better({"distilled": result(0.1)}) is None


def test_a_selection_of_real_images_may_be_no_better() -> None:
    results = {"distilled": result(0.5), "random": result(0.5)}
    assert notices([], results, learned=False) == []
    assert len(notices([], results, learned=True)) == 1


def test_lines_of_other_kinds_are_left_out() -> None:
    lines = [{"kind": "validation", "step": 1, "loss": 5.0, "applied_data": 1e9}] * 200
    assert notices(lines, {}, learned=True) == []
