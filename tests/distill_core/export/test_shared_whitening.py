"""A ZCA is compact in what is shared, as it is elsewhere, and its bytes and error are said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from distill_core.artefact import compact_whitening
from distill_core.artefact.artefact import load
from distill_core.artefact.count_storage import size
from distill_core.commands.verify import verify
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.whitening import Whitening
from distill_core.export import export
from distill_core.system.files import read_tensors
from distill_core.testing.small import poster_layout, small_data
from tests.distill_core.artefact.stored_results import assembled, save
from tests.distill_core.cli.fakes import distill
from tests.distill_core.conftest import MakeSynthetic
from tests.distill_core.small_run import save_artefact

SHAPE = (3, 8, 8)
D = 192


@pytest.fixture
def run_dir(make_synthetic: MakeSynthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose matrix is 30 I with a little noise, and large enough to be made compact."""
    monkeypatch.setattr(compact_whitening, "LEAST", 4 * D * D)
    noise = torch.randn(D, D, generator=torch.Generator().manual_seed(0)) / 20
    matrix = 30 * torch.eye(D) + noise + noise.T
    real = dataclasses.replace(small_data(6), whitening=Whitening("zca", {"matrix": matrix}))
    synthetic = make_synthetic(real, poster_layout())
    grid = synthetic.placement.class_grid.tolist()
    manifest = {
        "class_order": [[real.spec.class_names[k] for k in row] for row in grid],
        "versions": {"distill": "0", "python": "3", "torch": "2"},
        "budget": synthetic.budget().as_dict(),
        "outer_steps": 3,
    }
    save_artefact(tmp_path / "run", synthetic, real=real, recipe=Recipe(), manifest=manifest)
    return tmp_path / "run"


def test_what_goes_to_the_hub_has_it_compact_and_says_so(run_dir: Path, tmp_path: Path) -> None:
    whole, out = load(run_dir), tmp_path / "hub"
    lines = export(run_dir, out, "huggingface")
    shared = load(out)
    tensors, _ = read_tensors(out / "whitening.safetensors")
    assert shared.storage.whitening_bytes == size(tensors) < whole.storage.whitening_bytes / 10
    assert shared.storage.bytes == whole.storage.bytes
    assert torch.equal(shared.images, whole.images)
    pictures = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(1))
    exact = whole.transform(pictures)
    apart = (shared.transform(pictures) - exact).square().mean() / exact.square().mean()
    assert 0 < float(apart.sqrt()) < 0.1
    text = f"{size(tensors):,} bytes in place of {size(whole.transform.whitening.values):,}"
    card = (out / "README.md").read_text(encoding="utf-8")
    assert text in card
    assert "basis.T @" in card
    assert any(text in line for line in lines)
    assert {each.name: each.found for each in verify(out) if not each.passed} == {}


def test_the_whole_matrix_can_be_asked_for(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "hub"
    words = ("export", str(run_dir), "--format", "huggingface", "--out", str(out))
    assert distill(*words, "--exact-whitening").exit_code == 0
    name = "whitening.safetensors"
    assert (out / name).read_bytes() == (run_dir / name).read_bytes()
    assert "basis.T @" not in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", ["tensors", "dd-ranking"])
def test_other_formats_have_it_as_it_is(run_dir: Path, tmp_path: Path, form: str) -> None:
    lines = export(run_dir, tmp_path / "out", form)
    name = "whitening.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (run_dir / name).read_bytes()
    assert any("'zca', 147,456 bytes" in line for line in lines)


def test_what_was_shared_is_exported_again_with_its_error(run_dir: Path, tmp_path: Path) -> None:
    export(run_dir, tmp_path / "hub", "huggingface")
    lines = export(tmp_path / "hub", tmp_path / "tensors", "tensors")
    assert any("in place of 147,456: compact" in line for line in lines)
    name = "whitening.safetensors"
    assert (tmp_path / "tensors" / name).read_bytes() == (tmp_path / "hub" / name).read_bytes()
    found = json.loads((tmp_path / "tensors" / "info.json").read_text())
    assert found["storage"]["whitening_bytes"] < 10_000


def test_a_small_file_without_whitening_is_exported_alone(tmp_path: Path) -> None:
    file = save(assembled(images={"stored": "uint8"}, data={"whitening": "none"}), tmp_path / "run")
    alone = tmp_path / "alone" / file.name
    alone.parent.mkdir()
    alone.write_bytes(file.read_bytes())
    export(alone, tmp_path / "out", "tensors")
    _, header = read_tensors(tmp_path / "out" / "whitening.safetensors")
    assert header == read_tensors(file.with_name("whitening.safetensors"))[1]
    export(alone, tmp_path / "hub", "huggingface")
    assert torch.equal(load(tmp_path / "hub").images, load(alone).images)
