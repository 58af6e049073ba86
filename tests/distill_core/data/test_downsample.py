"""Scaling stored pixels up and down, against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.data.downsample import downsample, upsample


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def at(stored: Tensor, y: int, x: int, *, wraps: bool) -> Tensor:
    """A stored pixel; beyond the border the one around the canvas, or the nearest."""
    height, width = stored.shape[-2:]
    if wraps:
        return stored[..., y % height, x % width]
    return stored[..., min(max(y, 0), height - 1), min(max(x, 0), width - 1)]


def by_hand(stored: Tensor, factor: int, *, wraps: bool) -> Tensor:
    """Every pixel from the four stored ones around its centre."""
    rows, cols = (factor * side for side in stored.shape[-2:])
    whole = stored.new_empty(*stored.shape[:2], rows, cols)
    for row in range(rows):
        for col in range(cols):
            y, x = (row + 0.5) / factor - 0.5, (col + 0.5) / factor - 0.5
            top, left = math.floor(y), math.floor(x)
            whole[..., row, col] = sum(
                (1 - abs(y - j)) * (1 - abs(x - i)) * at(stored, j, i, wraps=wraps)
                for j in (top, top + 1)
                for i in (left, left + 1)
            )
    return whole


@given(
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 5), st.integers(1, 5)),
    st.integers(1, 4),
    st.booleans(),
)
def test_scaling_up_equals_a_plain_loop(shape, factor, wraps):
    stored = noise(*shape)
    found = upsample(stored, factor, wraps=wraps)
    torch.testing.assert_close(found, by_hand(stored, factor, wraps=wraps))


@pytest.mark.parametrize("wraps", [False, True])
def test_its_gradient_is_that_of_finite_differences(wraps):
    stored = noise(1, 1, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda each: upsample(each, 2, wraps=wraps), stored)


def test_going_around_has_no_border():
    stored = noise(1, 2, 4, 5)
    rolled = torch.roll(stored, (1, 2), (2, 3))
    whole = torch.roll(upsample(stored, 3, wraps=True), (3, 6), (2, 3))
    torch.testing.assert_close(upsample(rolled, 3, wraps=True), whole)


def test_a_factor_of_one_changes_nothing():
    stored = noise(1, 1, 2, 3)
    assert upsample(stored, 1) is stored
    assert downsample(stored, 1) is stored


def test_scaling_down_takes_the_means_of_blocks():
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert downsample(images, 2).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
