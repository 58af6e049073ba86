"""The formulae, against numbers worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.evaluation.scores import (
    Score,
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
    scale,
)


def test_scale_at_three_points() -> None:
    # e = 2.718281828, 1/e = 0.367879441; (1 - 0.367879441) / 2.350402387 = 0.268941421
    assert scale(-1) == 0
    assert scale(1) == 100
    assert scale(0) == pytest.approx(26.8941421, abs=1e-6)


def test_label_robust_score_by_hand() -> None:
    # Full 0.86, distilled 0.46 with soft and 0.36 with hard labels, random 0.16.
    hlr = hard_label_recovery(0.86, 0.36)
    ior = improvement_over_random(0.46, 0.16)
    assert hlr == pytest.approx(0.5)
    assert ior == pytest.approx(0.3)
    # alpha = 0.15 - 0.25 = -0.1; e^-0.1 = 0.904837418; 0.536957977 / 2.350402387 = 0.228453637
    assert label_robust_score(ior, hlr) == pytest.approx(22.8453637, abs=1e-5)
    # w = 1 counts IOR alone: e^0.3 = 1.349858808; 0.981979366 / 2.350402387 = 0.417792024
    assert label_robust_score(ior, hlr, weight=1) == pytest.approx(41.7792024, abs=1e-5)


def test_augmentation_robust_score_by_hand() -> None:
    # beta = 0.5 * 0.3 + 0.5 * 0.1 = 0.2; e^0.2 = 1.221402758; 0.853523317 / 2.350402387
    assert augmentation_robust_score(0.3, 0.1) == pytest.approx(36.3139231, abs=1e-5)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_scores_stay_between_0_and_100(one: float, other: float) -> None:
    assert -1e-9 <= label_robust_score(one, other) <= 100 + 1e-9
    assert -1e-9 <= augmentation_robust_score(one, other) <= 100 + 1e-9


def test_mean_and_spread() -> None:
    assert Score((20.0, 30.0)).as_dict() == {
        "mean": 25.0,
        "std": pytest.approx(50**0.5),
        "values": [20.0, 30.0],
    }
    assert str(Score((20.0, 30.0))) == "25.00 +- 7.07"
    assert str(Score((20.0,))) == "20.00"
