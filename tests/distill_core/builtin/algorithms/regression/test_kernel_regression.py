"""Kernel regression against scikit-learn, dense formulas and central differences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from distill_core.builtin.algorithms.regression.kernel_regression import (
    centred,
    fit_ridge_head,
    margin,
    real_targets,
    squared_error,
    synthetic_targets,
)
from distill_core.contracts.algorithm import DivergenceError
from distill_core.contracts.streams import seeded


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed, "values", *shape), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 9), d=st.integers(1, 9), k=st.integers(2, 4), power=st.integers(-6, 0))
def test_it_is_ridge_regression(n: int, d: int, k: int, power: int) -> None:
    features, targets, queries = random(n, d), random(n, k, seed=1), random(5, d, seed=2)
    head = fit_ridge_head(features, targets, ridge=10.0**power)
    penalty = head.ridge * float(features.square().sum()) / n
    known = Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(features, targets)
    expected = torch.as_tensor(known.predict(queries)).reshape(5, k)
    assert head.ridge == 10.0**power
    assert torch.allclose(head.predict(queries), expected, rtol=1e-6, atol=1e-8)


def test_it_is_the_formula_of_the_paper() -> None:
    features, targets, queries = random(7, 4), random(7, 3, seed=1), random(5, 4, seed=2)
    kernel = features @ features.T
    regular = kernel + 1e-3 * kernel.trace() / 7 * torch.eye(7, dtype=kernel.dtype)
    expected = queries @ features.T @ torch.linalg.inv(regular) @ targets
    head = fit_ridge_head(features, targets, ridge=1e-3)
    assert torch.allclose(head.predict(queries), expected, rtol=1e-9)


def test_the_ridge_is_relative_to_the_features() -> None:
    features, targets = random(6, 4), random(6, 3, seed=1)
    one = fit_ridge_head(features, targets, ridge=1e-2)
    other = fit_ridge_head(100 * features, targets, ridge=1e-2)
    assert torch.allclose(one.weights, 100 * other.weights)


def test_its_derivatives_agree_with_central_differences_to_second_order() -> None:
    features, targets, queries = random(6, 8), random(6, 3, seed=1), random(5, 8, seed=2)

    def loss(features: Tensor, targets: Tensor) -> Tensor:
        head = fit_ridge_head(features, targets, ridge=1e-2)
        return squared_error(head.predict(queries), random(5, 3, seed=3))

    inputs = (features.requires_grad_(), targets.requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


def test_single_precision_is_solved_in_double() -> None:
    features, targets = random(6, 4).float(), random(6, 3).float()
    head = fit_ridge_head(features, targets, ridge=1e-6)
    assert head.weights.dtype == torch.float64
    assert torch.equal(
        head.weights, fit_ridge_head(features.double(), targets.double(), ridge=1e-6).weights
    )
    assert head.predict(features).dtype == torch.float64


def test_the_ridge_grows_until_the_kernel_can_be_factorised() -> None:
    features = random(1, 3).repeat(40, 1)  # forty times the same image
    targets = random(40, 2, seed=1)
    head = fit_ridge_head(features, targets, ridge=1e-18)
    assert 1e-18 < head.ridge < 1e-12
    assert bool(torch.isfinite(head.weights).all())
    regular = fit_ridge_head(features, targets, ridge=1e-6)
    assert regular.ridge == 1e-6
    mean = targets.mean(0, keepdim=True)
    assert torch.allclose(regular.predict(features[:1]), mean, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "sentence"), [(0.0, "nothing can be told apart"), (float("nan"), "not finite")]
)
def test_features_without_a_solution_are_refused(value: float, sentence: str) -> None:
    with pytest.raises(DivergenceError, match=sentence):
        fit_ridge_head(torch.full((3, 2), value), random(3, 2), ridge=1e-6)


def test_targets_are_centred_and_scaled_as_published() -> None:
    labels = torch.eye(4, dtype=torch.float64)[[2, 0]]
    expected = torch.tensor([[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]]).double()
    assert torch.equal(centred(labels), expected)
    assert torch.equal(real_targets(torch.tensor([2, 0]), 4), expected)
    assert torch.allclose(synthetic_targets(labels), expected / 0.4**0.5)
    ten = torch.eye(10, dtype=torch.float64)
    assert torch.equal(synthetic_targets(ten), centred(ten))


def test_the_error_is_summed_over_classes_and_averaged_over_images() -> None:
    predictions = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    assert float(squared_error(predictions, torch.zeros(2, 2))) == 2.5


def test_the_margin_counts_up_to_a_bound() -> None:
    targets = torch.tensor([[0.75, -0.25, -0.25, -0.25], [0.2, 0.1, -0.1, -0.2]])
    assert float(margin(targets, most=0.25)) == pytest.approx((0.25 + 0.1) / 2)
