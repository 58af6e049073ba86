"""Noise in the place of real data."""

from __future__ import annotations

import torch

from distill_core.contracts.data import DataSpec
from distill_core.data.placeholder import noise, outline_of
from tests.distill_core.small_run import installed


def test_noise_takes_no_memory() -> None:
    spec = DataSpec("made", ("a", "b", "c"), (3, 8, 8), ())
    real = noise(spec, torch.device("cpu"))
    assert len(real.train) == 100_000
    assert real.train.images.untyped_storage().nbytes() == 4 * 3 * 8 * 8
    assert real.train.labels[:4].tolist() == [0, 1, 2, 0]


def test_only_some_datasets_tell_what_they_are_like_without_their_files() -> None:
    catalogue = installed()["dataset"]
    found = outline_of(catalogue.create("cifar10", {}))
    assert found is not None
    assert found.image_shape == (3, 32, 32)
    assert outline_of(catalogue.create("imagefolder", {"path": "x"})) is None
