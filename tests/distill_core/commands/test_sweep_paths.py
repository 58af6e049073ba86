"""Paths in a sweep file start from the file; data of cells that began may be moved, not changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image

from distill_core.commands.sweep import Cell, read_sweep
from distill_core.commands.sweep_cells import command
from distill_core.run.assemble import assemble
from distill_core.run.directory import begin
from distill_core.run.loop import OuterLoop
from registry import InputError, OptionError
from tests.distill_core.small_run import installed

BASE: dict[str, Any] = {
    "repr": "images",
    "labeler": "soft",
    "orderer": "identity",
    "algo": "none",
    "dataset": "imagefolder",
    "device": "cpu",
    "options": {"dataset": {"path": "../data"}, "backbone": {"width": 2, "depth": 1}},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """`data`, and `sweeps/sweep.toml` which says where they are."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(3):
            pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{k}.png")
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "sweep.toml").write_text(tomli_w.dumps({"base": BASE}))
    return tmp_path


def cells_of(project: Path, *overrides: str) -> list[Cell]:
    return read_sweep(project / "sweeps" / "sweep.toml", project / "out", installed(), overrides)


def path_of(cell: Cell) -> str:
    return str(cell.config.component("dataset")["options"]["path"])


def started(cell: Cell) -> None:
    begin(cell.run_dir, cell.config, overwrite=False)
    OuterLoop(assemble(cell.config, installed()), cell.run_dir).checkpoint()


def test_a_path_starts_from_the_file_wherever_the_command_is_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (cell,) = cells_of(project)
    assert Path(path_of(cell)).resolve() == project / "data"
    assert Path(path_of(cell)).is_absolute()


def test_so_does_one_in_the_grid_and_names_are_as_written(project: Path) -> None:
    file = project / "sweeps" / "sweep.toml"
    grid = {"dataset": {"path": ["../data", "/else/where"]}}
    file.write_text(tomli_w.dumps({"base": BASE, "grid": grid}))
    first, second = cells_of(project)
    assert Path(path_of(first)).resolve() == project / "data"
    assert path_of(second) == "/else/where"
    assert [cell.axes["dataset.path"] for cell in (first, second)] == ["../data", "/else/where"]


def test_a_path_from_the_current_folder_is_told_apart(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "sweeps" / "sweep.toml").rename(project / "sweep.toml")
    (project / "data").rename(project / "sweeps" / "data")
    monkeypatch.chdir(project / "sweeps")
    text = (project / "sweep.toml").read_text()
    (project / "sweep.toml").write_text(text.replace("../data", "data"))
    with pytest.raises(InputError, match=r"dataset\.path = 'data' leads to .*, where nothing is"):
        read_sweep(project / "sweep.toml", project / "out", installed())


def test_moved_data_are_accepted_and_told_to_the_cell(project: Path) -> None:
    (cell,) = cells_of(project)
    started(cell)
    (project / "data").rename(project / "moved")
    there = f"dataset.path={project / 'moved'}"
    (again,) = cells_of(project, there)
    assert again.state() == "interrupted"
    words = command(again, project / "out")
    assert "--resume" in words
    assert words[-2:] == ["-o", f'dataset.path="{project / "moved"}"']


def test_other_data_at_the_new_place_are_refused(project: Path) -> None:
    (cell,) = cells_of(project)
    started(cell)
    other = shutil.copytree(project / "data", project / "other")
    (other / "cat").rename(other / "cow")
    with pytest.raises(InputError, match="class 'cat' is gone; class 'cow' is new"):
        cells_of(project, f"dataset.path={other}")


def test_only_places_can_be_given_and_none_that_the_grid_varies(project: Path) -> None:
    with pytest.raises(OptionError, match=r"algo\.window=3 cannot be changed here|unknown option"):
        cells_of(project, "algo.window=3")
    with pytest.raises(OptionError, match="it is not a place of the data"):
        cells_of(project, "dataset.size=8")
    grid = {"dataset": {"path": ["../data", "/else/where"]}}
    file = project / "sweeps" / "sweep.toml"
    file.write_text(tomli_w.dumps({"base": BASE, "grid": grid}))
    with pytest.raises(OptionError, match="it is an axis of the grid"):
        cells_of(project, "dataset.path=/data")
