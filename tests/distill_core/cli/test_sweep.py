"""`distill sweep`: what is printed and what is refused; the engine is tested beside its code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from distill_core.commands.sweep import Cell
from distill_core.commands.sweep_cells import Told, log_path
from tests.distill_core.cli.fakes import distill
from tests.distill_core.small_run import SMALL

OTHERS = ("ipc=0.8,seed=1", "ipc=1,seed=0", "ipc=1,seed=1")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("grid.toml").write_text(
        tomli_w.dumps({"base": SMALL, "seeds": [0, 1], "grid": {"ipc": [0.8, 1.0]}})
    )
    return "grid.toml"


def test_a_dry_run_writes_nothing(file: str, tmp_path: Path) -> None:
    lines = distill("sweep", file, "--dry-run").stdout.splitlines()
    assert [line.split() for line in lines[:2]] == [["cell", "state"], ["ipc=0.8,seed=0", "new"]]
    cells = json.loads(distill("sweep", file, "--dry-run", "--json").stdout)
    assert cells[3] == {"cell": "ipc=1,seed=1", "state": "new"}
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_a_report_of_nothing_done(file: str) -> None:
    result = distill("sweep", file, "--report", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [(cell["ipc"], cell["seed"], cell["state"]) for cell in found[:2]] == [
        ("0.8", 0, "new"),
        ("0.8", 1, "new"),
    ]
    assert json.loads(Path("sweeps/grid/results.json").read_text()) == found


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--gpus", "1"), "Next: add --cluster slurm, or leave"),
        (("--cluster", "slurm"), "Next: add --time 240"),
        (("--cluster", "local", "--cpus", "2"), "--cluster local has no --time."),
    ],
)
def test_parameters_of_jobs(file: str, arguments: tuple[str, ...], text: str) -> None:
    result = distill("sweep", file, *arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert not Path("sweeps").exists()


def test_an_error_of_many_cells_is_shown_once(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_cells(cells: list[Cell], out: Path, *, ended: Told, **how: Any) -> None:
        for cell in cells:
            log_path(cell, out).parent.mkdir(parents=True, exist_ok=True)
            log_path(cell, out).write_text(f"no room for {cell.name}.\nNext: make some.\n")
            ended(cell, 1)

    monkeypatch.setattr("distill_core.commands.sweep_queue.run_cells", run_cells)
    result = distill("sweep", file)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[1:] == [
        "failed ipc=0.8,seed=0: exit code 1",
        "  no room for ipc=0.8,seed=0.",
        "  Next: make some.",
        "  (sweeps/grid/logs/ipc=0.8,seed=0.log)",
        *(f"failed {name}: as ipc=0.8,seed=0" for name in OTHERS),
    ]
    assert "failed: ipc=0.8,seed=0, ipc=0.8,seed=1, ipc=1,seed=0 and 1 more" in result.stdout
