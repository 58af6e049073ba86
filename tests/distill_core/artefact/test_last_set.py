"""A set of files that is being replaced: readers find the old one or the new one, whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distill_core.artefact import artefact, saving
from distill_core.artefact.artefact import file_sha256, load
from distill_core.artefact.contents import KEPT
from distill_core.artefact.last_set import current, keep, read_set
from distill_core.artefact.manifest import read_manifest
from distill_core.artefact.saving import ArtefactWriter
from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import SyntheticDataset
from registry import EnvironmentFault, InputError

FILES = ("distilled.safetensors", "poster.png", "poster_grid.png", "manifest.json")


@pytest.fixture
def run_dir(real: RealData, synthetic: SyntheticDataset, tmp_path: Path) -> Path:
    """A run directory with a result of step 1; `synthetic` is another one then."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.toml").write_text("seed = 1\n")
    save(ArtefactWriter(tmp_path / "run", real), synthetic, 1)
    with torch.no_grad():
        for parameter in synthetic.parameters():
            parameter.mul_(0.5)
    return tmp_path / "run"


def save(writer: ArtefactWriter, synthetic: SyntheticDataset, step: int) -> None:
    writer.save(synthetic, recipe=Recipe(), manifest={"step": step})


def step_of(run_dir: Path) -> int:
    """The step of the set that is read, every file of which is as its manifest says."""
    folder = current(run_dir)
    record = read_manifest(folder)
    for name, sha256 in record["files"].items():
        assert file_sha256(folder / name) == sha256
    distilled = load(run_dir)
    assert distilled.verified
    assert file_sha256(distilled.path) == record["files"]["distilled.safetensors"]
    assert load(run_dir / "distilled.safetensors").images.equal(distilled.images)
    return int(record["step"])


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the disk be full when this file is written."""
    write = saving.write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.name == name:
            raise EnvironmentFault("no room")
        write(path, data)

    monkeypatch.setattr(saving, "write_atomically", full)


@pytest.fixture(params=[True, False], ids=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system has links, or not."""

    def refuse(*arguments: object) -> None:
        raise PermissionError

    if not request.param:
        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("name", FILES)
def test_a_save_that_stops_leaves_the_set_before_it(
    run_dir: Path,
    real: RealData,
    synthetic: SyntheticDataset,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, name)
        for _ in range(2):  # the second save finds what the first has left
            with pytest.raises(EnvironmentFault):
                save(ArtefactWriter(run_dir, real), synthetic, 2)
            assert step_of(run_dir) == 1
    copy = shutil.copytree(run_dir, run_dir.with_name("copy"))
    assert step_of(copy) == 1
    save(ArtefactWriter(run_dir, real), synthetic, 2)
    assert step_of(run_dir) == 2
    assert sorted(path.name for path in run_dir.iterdir()) == sorted(
        (*FILES, "run.toml", "whitening.safetensors")
    )


def test_a_kill_after_the_manifest_leaves_the_new_set(
    run_dir: Path, real: RealData, synthetic: SyntheticDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(saving, "release", lambda run_dir: None)
        save(ArtefactWriter(run_dir, real), synthetic, 2)
    assert (run_dir / KEPT).exists()
    assert step_of(run_dir) == 2
    keep(run_dir)
    assert step_of(run_dir) == 2
    assert current(run_dir) == run_dir / KEPT
    save(ArtefactWriter(run_dir, real), synthetic, 3)
    assert not (run_dir / KEPT).exists()


def test_a_set_that_is_replaced_while_it_is_read_is_read_again(
    run_dir: Path, real: RealData, synthetic: SyntheticDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, writes = artefact.read_tensors, [2]

    def slow(path: Path) -> object:
        if writes:
            save(ArtefactWriter(run_dir, real), synthetic, writes.pop())
        return read(path)

    keep(run_dir)
    monkeypatch.setattr(artefact, "read_tensors", slow)
    assert load(run_dir).verified
    assert step_of(run_dir) == 2


def test_a_set_that_vanishes_while_it_is_read_is_read_again(
    run_dir: Path, real: RealData, synthetic: SyntheticDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, writes = artefact.gathered_bytes, [2]

    def slow(tensors: dict[str, torch.Tensor]) -> int:
        if writes:
            save(ArtefactWriter(run_dir, real), synthetic, writes.pop())
        return count(tensors)

    keep(run_dir)
    monkeypatch.setattr(artefact, "gathered_bytes", slow)
    assert load(run_dir).path == run_dir / "distilled.safetensors"
    assert step_of(run_dir) == 2


def test_a_set_that_never_rests_is_refused(run_dir: Path) -> None:
    def read(check: Callable[[], None]) -> None:
        (run_dir / "manifest.json").touch()
        attempts.append(1)
        check()

    attempts: list[int] = []
    with pytest.raises(InputError, match="was replaced while it was read"):
        read_set(run_dir, read)
    assert len(attempts) == 5
    with pytest.raises(ZeroDivisionError):
        read_set(run_dir, lambda check: 1 / 0)


def test_a_previous_set_that_is_a_link_is_not_followed(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "elsewhere")
    (run_dir / KEPT).symlink_to(tmp_path / "elsewhere")
    assert current(run_dir) == run_dir


def test_a_damaged_file_of_a_set_at_rest_is_refused_as_ever(run_dir: Path) -> None:
    (run_dir / "distilled.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="was changed or cut short"):
        load(run_dir)
