"""Affine resampling: against PyTorch's own operator, and its derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from distill_core.streams import seeded
from distill_core.warp import warp

# PyTorch scripts some of its own functions when forward mode is first used.
by_forward_mode = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")


def by_grid_sample(images: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """The same map through affine_grid, whose positions are x before y and run from -1 to 1."""
    h, w = images.shape[2:]
    rows = [
        [matrix[:, 1, 1], matrix[:, 1, 0] * h / w, shift[:, 1] * 2 / w],
        [matrix[:, 0, 1] * w / h, matrix[:, 0, 0], shift[:, 0] * 2 / h],
    ]
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def some_maps(num: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = seeded(seed)
    matrix = torch.eye(2) + 0.4 * torch.randn(num, 2, 2, generator=generator)
    return matrix.double(), torch.randn(num, 2, generator=generator).double()


@given(
    n=st.integers(1, 3),
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_it_equals_grid_sample(n: int, h: int, w: int, channels: int, seed: int) -> None:
    images = torch.randn(n, channels, h, w, dtype=torch.float64, generator=seeded(seed, "images"))
    maps = some_maps(n, seed=seed)
    assert torch.allclose(warp(images, *maps), by_grid_sample(images, *maps), atol=1e-11)


def test_a_quarter_turn_is_exact_on_a_square_and_whole_shifts_move_pixels() -> None:
    images = torch.arange(9.0, dtype=torch.float64).view(1, 1, 3, 3)
    nothing, still = torch.zeros(1, 2).double(), torch.eye(2)[None].double()
    turned = warp(images, torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]]).double(), nothing)
    assert torch.allclose(turned[0, 0], torch.rot90(images[0, 0]), atol=1e-12)
    moved = warp(images, still, torch.tensor([[1.0, 0.0]]).double())
    expected = torch.tensor([[3.0, 4, 5], [6, 7, 8], [0, 0, 0]]).double()
    assert torch.allclose(moved[0, 0], expected, atol=1e-12)


@by_forward_mode
def test_derivatives_of_first_and_second_order_in_both_modes() -> None:
    images = torch.randn(2, 2, 4, 5, dtype=torch.float64, generator=seeded(0), requires_grad=True)
    maps = some_maps(2)

    def cubed(values: Tensor) -> Tensor:
        return warp(values, *maps) ** 3

    assert torch.autograd.gradcheck(cubed, images, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(cubed, images, check_fwd_over_rev=True)


@by_forward_mode
def test_it_is_linear_under_function_transforms() -> None:
    images, tangent = torch.randn(2, 3, 1, 6, 6, dtype=torch.float64, generator=seeded(1))
    maps = some_maps(3)
    _, pushed = torch.func.jvp(lambda values: warp(values, *maps), (images,), (tangent,))
    assert torch.equal(pushed, warp(tangent, *maps))
    both = torch.func.vmap(lambda values: warp(values, *maps))(torch.stack([images, tangent]))
    assert torch.equal(both[1], warp(tangent, *maps))


def test_a_small_rotation_keeps_the_mass_inside() -> None:
    angle = torch.tensor([math.radians(10)], dtype=torch.float64)
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack([cos, sin, -sin, cos], 1).view(1, 2, 2)
    blob = functional.pad(torch.ones(1, 1, 4, 4, dtype=torch.float64), (6, 6, 6, 6))
    turned = warp(blob, matrix, torch.zeros(1, 2).double())
    assert float(turned.sum()) == pytest.approx(16, rel=2e-2)
