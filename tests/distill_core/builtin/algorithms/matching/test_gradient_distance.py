"""Distances of gradients against the published formulas, written out with loops."""

from __future__ import annotations

import pytest
import torch
from torch import Size, Tensor

from distill_core.builtin.algorithms.matching.gradient_distance import gradient_distance
from distill_core.contracts.streams import seeded

PLACES = {
    "convolution": (slice(0, 36), Size([2, 2, 3, 3])),
    "bias": (slice(36, 38), Size([2])),
    "head": (slice(38, 50), Size([3, 4])),
}


def drawn() -> tuple[Tensor, Tensor]:
    found, wanted = torch.randn(2, 50, generator=seeded(0, "gradients"), dtype=torch.float64)
    return found.requires_grad_(), wanted


def cosine(a: Tensor, b: Tensor) -> float:
    return float(((a * b).sum() / (a.norm() * b.norm() + 1e-6)).detach())


def test_layers_compare_every_output_and_leave_out_one_dimension() -> None:
    found, wanted = drawn()
    rows = [(0, 18), (18, 36), (38, 42), (42, 46), (46, 50)]
    expected = sum(1 - cosine(found[a:b], wanted[a:b]) for a, b in rows)
    distance = gradient_distance(found, wanted, PLACES)
    assert float(distance.detach()) == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(distance, found)
    assert not gradient[36:38].any()


def test_other_distances_take_all_numbers() -> None:
    found, wanted = (each.detach() for each in drawn())
    squares = float(((found - wanted) ** 2).sum())
    assert float(gradient_distance(found, wanted, PLACES, "mse")) == pytest.approx(squares)
    whole = 1 - cosine(found, wanted)
    assert float(gradient_distance(found, wanted, PLACES, "cosine")) == pytest.approx(whole)


@pytest.mark.parametrize("distance", ["layers", "mse", "cosine"])
def test_equal_gradients_have_no_distance_and_zero_has_a_finite_gradient(distance: str) -> None:
    _, wanted = drawn()
    assert float(gradient_distance(wanted, wanted, PLACES, distance)) < 1e-5
    zero = torch.zeros_like(wanted).requires_grad_()
    gradient_distance(zero, wanted, PLACES, distance).backward()
    assert bool(torch.isfinite(zero.grad).all())
