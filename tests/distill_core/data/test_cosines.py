"""The cosine transform against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dctn

from distill_core.data.cosines import cosine_basis, lowest_frequencies


@given(st.integers(1, 9), st.integers(1, 9))
def test_the_transform_is_the_orthonormal_one_of_scipy(height: int, width: int) -> None:
    image = np.random.default_rng(0).normal(size=(height, width))
    down, across = cosine_basis(height).numpy(), cosine_basis(width).numpy()
    np.testing.assert_allclose(down @ image @ across.T, dctn(image, norm="ortho"), atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_rows_are_orthonormal_to_float64(n: int) -> None:
    basis = cosine_basis(n, torch.float64)
    assert torch.allclose(basis @ basis.T, torch.eye(n, dtype=torch.float64))


def test_frequencies_are_in_order_of_their_length() -> None:
    assert lowest_frequencies((1, 4)).tolist() == [0, 1, 2, 3]
    assert lowest_frequencies((2, 2)).tolist() == [0, 1, 2, 3]
    assert lowest_frequencies((4, 2)).tolist() == [0, 2, 1, 4, 3, 5, 6, 7]
