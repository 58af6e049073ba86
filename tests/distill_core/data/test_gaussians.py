"""Sums of Gaussians: that they are what SciPy says, and where they start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from distill_core.data import gaussians
from distill_core.data.gaussians import (
    PIXEL_VARIANCE,
    colours_at,
    even_factors,
    sum_gaussians,
)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 9))
def test_a_sum_is_of_normal_densities_at_their_peak(height, width, points, seed) -> None:
    rng = np.random.default_rng(seed)
    means, colours = rng.uniform(-1, 1, (1, points, 2)), rng.normal(size=(1, points, 2))
    factors = rng.uniform(0.2, 1, (1, points, 3))
    image = sum_gaussians(
        *map(torch.from_numpy, (means, factors, colours)),
        hw=(height, width),
    )
    y, x = ((np.arange(2 * side) + 0.5) / side - 1 for side in (height, width))
    places = np.stack(np.meshgrid(x, y), axis=-1)
    box = PIXEL_VARIANCE * np.diag([(2 / width) ** 2, (2 / height) ** 2])
    fine = np.zeros((2, 2 * height, 2 * width))
    for mean, (l11, l21, l22), colour in zip(means[0], factors[0], colours[0], strict=True):
        lower = np.array([[l11, 0], [l21, l22]])
        density = multivariate_normal(mean, lower @ lower.T + box)
        wave = density.pdf(places.reshape(-1, 2)) / density.pdf(mean)
        fine += colour[:, None, None] * wave.reshape(2 * height, 2 * width)
    expected = fine.reshape(2, height, 2, width, 2).mean((2, 4))
    np.testing.assert_allclose(image[0].numpy(), expected, atol=1e-5)


def test_even_gaussians_with_colours_of_an_image_sum_up_to_about_it() -> None:
    side = (torch.arange(5) + 0.5) * 0.4 - 1
    means = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1).reshape(1, -1, 2)
    image = torch.full((1, 3, 16, 16), 0.7)
    factors = even_factors(25).expand(1, 25, 3)
    made = sum_gaussians(means, factors, colours_at(means, image), hw=(16, 16))
    torch.testing.assert_close(made[..., 6:10, 6:10], image[..., 6:10, 6:10], atol=0.05, rtol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")  # PyTorch's own
@pytest.mark.parametrize("piece", [1, 2 * 5 * 24, 2**18])
def test_derivatives_of_every_order_and_direction_are_exact_in_pieces(piece, monkeypatch) -> None:
    monkeypatch.setitem(gaussians.PIECE, "cpu", piece)
    draw = torch.Generator().manual_seed(0)

    def summed(*numbers: torch.Tensor) -> torch.Tensor:
        return sum_gaussians(*numbers, hw=(2, 3))

    numbers = [
        torch.rand(3, 5, width, dtype=torch.float64, generator=draw).requires_grad_()
        for width in (2, 3, 3)
    ]
    assert torch.autograd.gradcheck(summed, numbers, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(summed, numbers)


def test_pieces_change_no_number(monkeypatch) -> None:
    draw = torch.Generator().manual_seed(0)
    numbers = [torch.rand(5, 4, width, generator=draw) for width in (2, 3, 3)]
    whole = sum_gaussians(*numbers, hw=(4, 4))
    monkeypatch.setitem(gaussians.PIECE, "cpu", 2 * 4 * 64)
    torch.testing.assert_close(sum_gaussians(*numbers, hw=(4, 4)), whole)
    monkeypatch.undo()
    mapped = torch.func.vmap(lambda *one: sum_gaussians(*one, hw=(4, 4)))
    torch.testing.assert_close(mapped(*(number[:, None] for number in numbers))[:, 0], whole)


@pytest.mark.parametrize("factor", [1e2, 1e4])
def test_long_thin_gaussians_keep_their_width(factor) -> None:
    numbers = (
        torch.tensor([[[0.1, -0.2]]]),
        torch.tensor([[[factor, factor, 0.2]]]),  # a stripe
        torch.ones(1, 1, 1),
    )
    single, double = (
        sum_gaussians(
            *(number.to(dtype) for number in numbers),
            hw=(8, 8),
        )
        for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(single.double(), double, atol=1e-3, rtol=0)


@given(st.sampled_from([8, 32, 224, 1024]), st.integers(0, 9))
def test_small_gaussians_are_as_exact_in_large_images(side, seed) -> None:
    """Places are taken from the mean before they are squared: far from the middle, too."""
    draw = torch.Generator().manual_seed(seed)
    means = 2 * torch.rand(1, 3, 2, generator=draw) - 1
    numbers = means, torch.full((1, 3, 3), 0.2 / side), torch.rand(1, 3, 1, generator=draw)
    single, double = (
        sum_gaussians(*(number.to(dtype) for number in numbers), hw=(1, side))
        for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(single.double(), double, atol=2e-5, rtol=0)


def test_gaussians_far_away_add_nothing() -> None:
    numbers = torch.ones(1, 2, 2), torch.full((1, 2, 3), 1e-3), torch.ones(1, 2, 1)
    image = sum_gaussians(*numbers, hw=(64, 64))
    assert image[..., :32, :32].abs().max() < 1e-20
    assert image[..., -1, -1] > 0.1


def test_no_images_have_sums_and_derivatives() -> None:
    numbers = [torch.zeros(0, 5, width, requires_grad=True) for width in (2, 3, 3)]
    image = sum_gaussians(*numbers, hw=(2, 3))
    assert image.shape == (0, 3, 2, 3)
    grads = torch.autograd.grad(image.sum(), numbers)
    assert [grad.shape for grad in grads] == [number.shape for number in numbers]


def test_shapes_are_had_without_numbers() -> None:
    numbers = [torch.zeros(2, 5, width, device="meta") for width in (2, 3, 3)]
    assert sum_gaussians(*numbers, hw=(1, 3)).shape == (2, 3, 1, 3)


@pytest.mark.parametrize("narrow", range(3), ids=["means", "factors", "colours"])
def test_of_several_types_everything_is_computed_in_the_widest(narrow) -> None:
    draw = torch.Generator().manual_seed(0)
    numbers = [torch.rand(2, 4, width, generator=draw, dtype=torch.float64) for width in (2, 3, 3)]
    numbers[narrow] = numbers[narrow].bfloat16().requires_grad_()
    found = sum_gaussians(*numbers, hw=(4, 4))
    alike = sum_gaussians(*(each.detach().double() for each in numbers), hw=(4, 4))
    assert found.dtype == torch.float64
    assert torch.equal(found, alike)
    (gradient,) = torch.autograd.grad(found.sum(), numbers[narrow])
    assert gradient.dtype == torch.bfloat16
    assert bool(gradient.any())
