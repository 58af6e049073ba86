"""A small result to write: six classes on a poster."""

from __future__ import annotations

import pytest

from distill_core.contracts.data import RealData
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.testing.small import poster_layout, small_data
from tests.distill_core.conftest import MakeSynthetic


@pytest.fixture(scope="module")
def real() -> RealData:
    return small_data(6)


@pytest.fixture
def synthetic(real: RealData, make_synthetic: MakeSynthetic) -> SyntheticDataset:
    return make_synthetic(real, poster_layout())
