"""The cosine transform against SciPy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dctn

from distill_core.data.cosines import cosine_basis


@given(st.integers(1, 9), st.integers(1, 9))
def test_the_transform_is_the_orthonormal_one_of_scipy(height: int, width: int) -> None:
    image = np.random.default_rng(0).normal(size=(height, width))
    down, across = cosine_basis(height).numpy(), cosine_basis(width).numpy()
    np.testing.assert_allclose(down @ image @ across.T, dctn(image, norm="ortho"), atol=1e-5)
