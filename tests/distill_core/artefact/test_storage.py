"""What a result takes to store, against counting by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill_core.artefact.artefact import load
from distill_core.artefact.count_storage import storage_of
from distill_core.artefact.storage import Storage
from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import SyntheticDataset, check_budget
from distill_core.contracts.whitening import Whitening
from distill_core.system.files import read_tensors, write_tensors
from registry import InputError
from tests.distill_core.small_run import save_artefact

RECIPE = Recipe(lr=0.01, steps=30, batch_size=8)
NONE = Whitening("none")


def test_everything_is_counted(synthetic: SyntheticDataset, real: RealData) -> None:
    """A poster of 3x20x23 float32 numbers, six classes of 3x8x8 images, and labels."""
    labels = sum(tensor.numel() for tensor in synthetic.labeler.state_dict().values())
    found = storage_of(synthetic, real.whitening)
    assert found == Storage(
        numbers=3 * 20 * 23 + labels,
        bytes=4 * (3 * 20 * 23 + labels),
        label_bytes=4 * labels,
        bits_per_class=8 * 4 * (3 * 20 * 23 + labels) / 6,
        ipc_pixels=20 * 23 / (6 * 64),
        ipc_bytes=(3 * 20 * 23 + labels) / (6 * 3 * 64),
        whitening_bytes=4 * 6,  # mean and deviation of three channels
    )


@pytest.mark.parametrize(
    ("plant", "more"),
    [
        (torch.zeros(100), 400),
        (torch.zeros(100, dtype=torch.bool), 100),
        (torch.zeros(100, dtype=torch.bfloat16), 200),
        (torch.zeros(100, dtype=torch.int64), 800),
    ],
)
def test_a_buffer_is_counted_in_its_own_type(
    synthetic: SyntheticDataset, plant: torch.Tensor, more: int
) -> None:
    before, pixels = storage_of(synthetic, NONE), synthetic.budget().pixels
    synthetic.representation.register_buffer("palette", plant)
    after = storage_of(synthetic, NONE)
    assert (after.numbers - before.numbers, after.bytes - before.bytes) == (100, more)
    assert after.label_bytes == before.label_bytes
    with pytest.raises(InputError, match="images per class"):
        check_budget(synthetic.budget(), pixels / (6 * 64))


def test_an_artefact_of_an_earlier_version_is_counted_when_it_is_read(
    synthetic: SyntheticDataset, real: RealData, tmp_path: Path
) -> None:
    save_artefact(tmp_path, synthetic, real=real, recipe=RECIPE, manifest={})
    (tmp_path / "manifest.json").unlink()
    stated, file = load(tmp_path).storage, tmp_path / "distilled.safetensors"
    tensors, metadata = read_tensors(file)
    del metadata["storage"]
    write_tensors(file, tensors, metadata)
    assert load(tmp_path).storage == stated == storage_of(synthetic, real.whitening)


def test_an_artefact_with_a_storage_that_cannot_be_is_refused(
    synthetic: SyntheticDataset, real: RealData, tmp_path: Path
) -> None:
    save_artefact(tmp_path, synthetic, real=real, recipe=RECIPE, manifest={})
    (tmp_path / "manifest.json").unlink()
    file = tmp_path / "distilled.safetensors"
    tensors, metadata = read_tensors(file)
    write_tensors(file, tensors, metadata | {"storage": metadata["storage"] | {"bytes": -1}})
    with pytest.raises(InputError, match="complete artefact"):
        load(tmp_path)
