"""Sums of Gaussians: that they are what SciPy says, and where they start."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from distill_core.data.gaussians import (
    PIXEL_VARIANCE,
    colours_at,
    even_factors,
    gaussian_places,
    sum_gaussians,
)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 9))
def test_a_sum_is_of_normal_densities_at_their_peak(height, width, points, seed) -> None:
    rng = np.random.default_rng(seed)
    means, colours = rng.uniform(-1, 1, (1, points, 2)), rng.normal(size=(1, points, 2))
    factors = rng.uniform(0.2, 1, (1, points, 3))
    image = sum_gaussians(
        *map(torch.from_numpy, (means, factors, colours)),
        places=gaussian_places(height, width).double(),
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
    made = sum_gaussians(
        means, factors, colours_at(means, image), places=gaussian_places(16, 16), hw=(16, 16)
    )
    torch.testing.assert_close(made[..., 6:10, 6:10], image[..., 6:10, 6:10], atol=0.05, rtol=0)
