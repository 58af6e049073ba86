"""Affine resampling: against PyTorch's own operator, and its derivatives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from distill_core.contracts.streams import seeded
from distill_core.data import augment
from distill_core.data import warp as module
from distill_core.data.augment import Augmentation, Draw
from distill_core.data.warp import gathered, radius_of, warp
from tests.second_device import on_cpu, second_device

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


class Called:
    """Stands in for `warp`, and keeps the map that an operation asks for."""

    def __call__(self, images: Tensor, matrix: Tensor, shift: Tensor, *, stretch: float) -> Tensor:
        self.matrix, self.shift, self.stretch = matrix, shift, stretch
        self.grid = torch.empty(0)

        def kept(images: Tensor, grid: Tensor, *settings: object) -> Tensor:
            self.grid = grid
            return images

        with mock.patch.object(torch, "grid_sampler_2d", kept):
            return warp(images, matrix, shift)


def asked_of(operation: str, images: Tensor, values: Tensor) -> Called:
    with mock.patch.object(augment, "warp", Called()) as called:
        Augmentation.apply(images, Draw(operation, values))
    return called


PARAMETERS = {  # of an image of h x w, up to the limits of what is drawn
    "rotate": lambda h, w: st.tuples(st.floats(-15, 15)),
    "scale": lambda h, w: st.tuples(st.floats(1 / 1.2, 1.2), st.floats(1 / 1.2, 1.2)),
    "crop": lambda h, w: st.tuples(*(st.integers(-(s // 8) - 1, s // 8 + 1) for s in (h, w))),
}


@pytest.mark.parametrize("operation", PARAMETERS)
@given(data=st.data(), h=st.integers(1, 40), w=st.integers(1, 40), seed=st.integers(0, 99))
def test_the_gather_is_the_transpose(
    operation: str, data: st.DataObject, h: int, w: int, seed: int
) -> None:
    rows = st.lists(PARAMETERS[operation](h, w), min_size=1, max_size=3)
    values = torch.tensor(data.draw(rows), dtype=torch.float64)
    cotangent = torch.randn(len(values), 2, h, w, dtype=torch.float64, generator=seeded(seed))
    called = asked_of(operation, cotangent, values)
    expected = torch.ops.aten.grid_sampler_2d_backward(
        cotangent, cotangent, called.grid, 0, 0, False, (True, False)
    )[0]
    radius = radius_of(called.stretch)
    assert radius == 1
    found = gathered(cotangent, called.grid, called.matrix, called.shift, radius)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@given(seed=st.integers(0, 999), h=st.integers(1, 12), w=st.integers(1, 12))
def test_the_radius_is_enough_for_any_map(seed: int, h: int, w: int) -> None:
    cotangent = torch.randn(2, 1, h, w, dtype=torch.float64, generator=seeded(seed))
    matrix, shift = some_maps(2, seed=seed)
    stretch = float(torch.linalg.inv(matrix).abs().sum(2).max())
    if stretch > 8:
        return
    images = torch.zeros_like(cotangent, requires_grad=True)
    warped = warp(images, matrix, shift)
    (expected,) = torch.autograd.grad(warped, images, cotangent)
    with mock.patch.object(module, "_order_matters", return_value=True):
        warped = warp(images, matrix, shift, stretch=stretch)
        (found,) = torch.autograd.grad(warped, images, cotangent)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@by_forward_mode
def test_derivatives_through_the_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_order_matters", lambda tensor: True)
    images = torch.randn(2, 2, 4, 5, dtype=torch.float64, generator=seeded(0), requires_grad=True)
    values = torch.tensor([[14.0], [-6.0]], dtype=torch.float64)

    def cubed(images: Tensor) -> Tensor:
        return Augmentation.apply(images, Draw("rotate", values)) ** 3

    assert torch.autograd.gradcheck(cubed, images, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(cubed, images, check_fwd_over_rev=True)
    gradient = torch.func.grad(lambda images: cubed(images).sum())
    both = torch.stack([images.detach(), images.detach().flip(0)])
    one_by_one = torch.stack([gradient(each) for each in both])
    assert torch.allclose(torch.func.vmap(gradient)(both), one_by_one, rtol=1e-12)


@pytest.fixture
def fixed_order() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before)


def gradients(device: str) -> tuple[Tensor, Tensor]:
    """A first and a second derivative through a rotation."""
    images = torch.randn(3, 2, 7, 9, dtype=torch.float64, generator=seeded(0))
    values = torch.tensor([[15.0], [-15.0], [4.0]], dtype=torch.float64)
    images, values = (each.to(device) for each in (images, values))
    images.requires_grad_()
    warped = Augmentation.apply(images, Draw("rotate", values))
    (first,) = torch.autograd.grad((warped**3).sum(), images, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), images)
    return first.detach(), second


def test_with_a_fixed_order_a_device_gathers_and_the_cpu_does_not(
    request: pytest.FixtureRequest,
) -> None:
    plain = gradients("cpu")
    with second_device() as log:
        gradients("meta")
        assert log.operations["grid_sampler_2d_backward"] == 2
    request.getfixturevalue("fixed_order")
    same = gradients("cpu")
    assert all(torch.equal(one, other) for one, other in zip(plain, same, strict=True))
    with second_device() as log:
        found = on_cpu(gradients("meta"))
    assert not log.operations["grid_sampler_2d_backward"]
    assert log.operations["gather"]
    # Nothing is read and nothing sent but images and values: it can be captured in a CUDA graph.
    assert not log.mismatches
    assert log.counts()["waits"] == log.counts()["copies"] == 2
    assert all(torch.allclose(one, o, rtol=1e-12) for one, o in zip(found, plain, strict=True))
