from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from distill_core.artefact.artefact import file_sha256, load
from distill_core.artefact.saving import ArtefactWriter
from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import SyntheticDataset

WHITENING = "whitening.safetensors"


def save(writer: ArtefactWriter, synthetic: SyntheticDataset, step: int = 0) -> dict[str, int]:
    """Save, check that the manifest is right, and return what marks each file as written anew."""
    writer.save(synthetic, recipe=Recipe(), manifest={"step": step})
    record = json.loads((writer.run_dir / "manifest.json").read_text())
    assert record["step"] == step
    for name, sha256 in record["files"].items():
        assert file_sha256(writer.run_dir / name) == sha256
    assert load(writer.run_dir).verified
    return {path.name: path.stat().st_ino for path in writer.run_dir.iterdir()}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in after if before.get(name) != after[name]}


def test_only_what_is_new_is_written(
    real: RealData, synthetic: SyntheticDataset, tmp_path: Path
) -> None:
    writer = ArtefactWriter(tmp_path / "run", real)
    first = save(writer, synthetic)
    same = save(writer, synthetic, step=1)
    assert changed(first, same) == {"manifest.json"}
    with torch.no_grad():
        next(synthetic.parameters()).add_(1)
    other = save(writer, synthetic, step=2)
    assert {"manifest.json", "distilled.safetensors"} <= changed(same, other)
    assert other[WHITENING] == first[WHITENING]


def test_a_resumed_run_keeps_a_whitening_that_is_right(
    real: RealData, synthetic: SyntheticDataset, tmp_path: Path
) -> None:
    first = save(ArtefactWriter(tmp_path / "run", real), synthetic)
    again = save(ArtefactWriter(tmp_path / "run", real), synthetic)
    assert again[WHITENING] == first[WHITENING]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_file_that_is_gone_is_written_again(
    real: RealData, synthetic: SyntheticDataset, tmp_path: Path, resumed: bool
) -> None:
    writer = ArtefactWriter(tmp_path / "run", real)
    save(writer, synthetic)
    (tmp_path / "run" / WHITENING).unlink()
    (tmp_path / "run" / "poster.png").unlink()
    save(ArtefactWriter(tmp_path / "run", real) if resumed else writer, synthetic)


def test_a_resumed_run_replaces_a_whitening_that_is_damaged(
    real: RealData, synthetic: SyntheticDataset, tmp_path: Path
) -> None:
    save(ArtefactWriter(tmp_path / "run", real), synthetic)
    path = tmp_path / "run" / WHITENING
    path.write_bytes(path.read_bytes()[:-1])
    save(ArtefactWriter(tmp_path / "run", real), synthetic)


@pytest.mark.parametrize("name", [WHITENING, "poster.png"])
def test_a_file_that_somebody_changed_meanwhile_is_written_again(
    real: RealData, synthetic: SyntheticDataset, tmp_path: Path, name: str
) -> None:
    writer = ArtefactWriter(tmp_path / "run", real)
    save(writer, synthetic)
    path = tmp_path / "run" / name
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    save(writer, synthetic)
    assert path.read_bytes() == good


def test_a_write_that_failed_is_made_up_for(
    real: RealData, synthetic: SyntheticDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill_core.artefact import saving

    writer, write = ArtefactWriter(tmp_path / "run", real), saving.write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.name == "distilled.safetensors":
            raise OSError("no room")
        write(path, data)

    monkeypatch.setattr(saving, "write_atomically", full)
    with pytest.raises(OSError, match="no room"):
        save(writer, synthetic)
    monkeypatch.setattr(saving, "write_atomically", write)
    assert "distilled.safetensors" in save(writer, synthetic)
