"""Sweeps: the grid is checked whole, names are stable, and nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli_w

from distill_core.commands.sweep import Cell, cell_name, read_sweep
from distill_core.commands.sweep_cells import (
    command,
    log_end,
    run_cells,
    run_job,
    submit_cells,
)
from distill_core.commands.sweep_table import not_alike, records, rows, save
from distill_core.config.run_config import to_toml
from registry import EnvironmentFault, ExplainedError, InputError, OptionError, UnknownNameError
from tests.distill_core.small_run import SMALL, installed


def sweep(folder: Path, **entries: Any) -> list[Cell]:
    file = folder / "sweep.toml"
    file.write_text(tomli_w.dumps({"base": SMALL, **entries}))
    return read_sweep(file, folder / "out", installed())


def finish(cell: Cell, accuracy: float) -> None:
    cell.run_dir.mkdir(parents=True)
    (cell.run_dir / "run.toml").write_text(to_toml(cell.config))
    results = {"distilled": {"mean": accuracy}}
    (cell.run_dir / "manifest.json").write_text(json.dumps({"format": 1, "results": results}))


def test_every_place_of_the_grid_with_every_seed(tmp_path: Path) -> None:
    cells = sweep(tmp_path, grid={"ipc": [0.5, 1.0], "algo": {"window": [1, 2]}}, seeds=[3, 4])
    assert [cell.name for cell in cells[:3]] == [
        "ipc=0.5,algo.window=1,seed=3",
        "ipc=0.5,algo.window=1,seed=4",
        "ipc=0.5,algo.window=2,seed=3",
    ]
    assert len(cells) == 8
    assert cells[-1].config.options["algo"].window == 2
    assert (cells[-1].config.ipc, cells[-1].config.seed) == (1.0, 4)
    assert not (tmp_path / "out").exists()


def test_a_quoted_option_is_the_same_as_a_table(tmp_path: Path) -> None:
    quoted = sweep(tmp_path, grid={"algo.window": [1, 2]})
    assert quoted == sweep(tmp_path, grid={"algo": {"window": [1, 2]}})


def test_an_axis_of_several_options_at_once(tmp_path: Path) -> None:
    methods = [{"name": "short", "algo.window": 1}, {"labeler": "soft", "repr": "images", "ipc": 1}]
    cells = sweep(tmp_path, grid={"method": methods})
    assert [cell.name for cell in cells] == [
        "method=short,seed=0",
        "method=labeler-soft+repr-images+ipc-1,seed=0",
    ]
    assert cells[1].config.labeler == "soft"
    assert "patches" not in cells[1].config.component("repr")["options"]


def test_names_are_safe_and_different() -> None:
    odd = [cell_name({"dataset.path": path}) for path in ("a/b", "a b", "../../x", "v" * 500)]
    assert len(set(odd)) == 4
    assert all("/" not in name and " " not in name and len(name) < 140 for name in odd)


@pytest.mark.parametrize(
    ("entries", "kind", "text"),
    [
        ({"grid": {"algo": {"windw": [1]}}}, OptionError, "cell algo.windw=1,seed=0: unknown"),
        ({"grid": {"labeler": ["sft"]}}, UnknownNameError, "cell labeler=sft,seed=0: no labeler"),
        ({"grid": {"stps": [1]}}, UnknownNameError, "Did you mean 'steps'?"),
        ({"grid": {"steps": 3}}, OptionError, "grid.steps = 3 is not an axis"),
        ({"grid": {"steps": []}}, OptionError, "is not an axis"),
        ({"grid": {"steps": [2, 2]}}, InputError, "two cells are called steps=2,seed=0"),
        ({"grid": {"seed": [1]}}, UnknownNameError, "for seeds write seeds = [0, 1]"),
        ({"seeds": [0, 0]}, OptionError, "different whole numbers"),
        ({"seeds": [True]}, OptionError, "different whole numbers"),
        ({"gird": {}}, UnknownNameError, "Did you mean 'grid'?"),
        ({"preset": "a", "config": "b"}, InputError, "both given"),
    ],
)
def test_a_wrong_grid_is_refused_whole(
    tmp_path: Path, entries: dict[str, Any], kind: type[ExplainedError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        sweep(tmp_path, **entries)
    assert text in str(caught.value)


def test_states_and_commands(tmp_path: Path) -> None:
    first, second, third = sweep(tmp_path, seeds=[0, 1, 2])
    finish(first, 0.5)
    saved = second.run_dir / "checkpoint" / "state.safetensors"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"")
    assert second.state() == "interrupted"
    saved.rename(saved.with_name("previous.safetensors"))  # killed between two renames
    third.run_dir.mkdir()
    (third.run_dir / "run.toml").write_text(to_toml(third.config))
    assert [cell.state() for cell in (first, second, third)] == ["done", "interrupted", "new"]
    assert "--resume" in command(second, tmp_path)
    assert command(third, tmp_path)[-1] == "--overwrite"


def test_a_cell_made_with_other_settings_is_not_taken_for_this_one(tmp_path: Path) -> None:
    (cell,) = sweep(tmp_path, grid={"ipc": [0.8]})
    finish(cell, 0.5)
    assert sweep(tmp_path, grid={"ipc": [0.8]}, base={**SMALL, "threads": 1})[0].state() == "done"
    with pytest.raises(InputError, match=r"made with steps = 4, not 5"):
        sweep(tmp_path, grid={"ipc": [0.8]}, base={**SMALL, "steps": 5})


def test_the_table_has_means_over_seeds(tmp_path: Path) -> None:
    cells = sweep(tmp_path, grid={"ipc": [0.8, 1.0]}, seeds=[0, 1])
    for cell, accuracy in zip(cells[:3], (0.5, 0.6, 0.7), strict=True):
        finish(cell, accuracy)
    assert rows(cells) == (
        ["ipc", "seeds", "distilled", "random", "full"],
        [["0.8", "2/2", "55.0 +- 7.1", "", ""], ["1", "1/2", "70.0", "", ""]],
    )
    save(records(cells, {cells[3].name: 2}), tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    assert [record["state"] for record in found] == ["done", "done", "done", "failed"]
    assert found[3]["exit_code"] == 2
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 5


def test_seeds_with_other_images_are_told(tmp_path: Path) -> None:
    cells = sweep(tmp_path, grid={"ipc": [0.8, 1.0]}, seeds=[0, 1])
    for cell, content in zip(cells, ("1", "2", "3", "3"), strict=True):
        finish(cell, 0.5)
        file = cell.run_dir / "manifest.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "dataset_content": content}))
    (line,) = not_alike(cells)
    assert "dataset 'shapes' has other images in some runs: ipc=0.8,seed=0 | ipc=0.8,seed=1" in line


def test_a_failed_cell_is_told_and_the_others_are_done(tmp_path: Path) -> None:
    cells = sweep(tmp_path, seeds=[0, 1, 2])
    codes: dict[str, int] = {}

    def make(cell: Cell, out: Path) -> list[str]:
        seed = cell.config.seed
        return [sys.executable, "-c", f"print('seed', {seed}); raise SystemExit({seed == 1})"]

    run_cells(
        cells, tmp_path, parallel=2, ended=lambda c, code: codes.update({c.name: code}), make=make
    )
    assert codes == {"seed=0": 0, "seed=1": 1, "seed=2": 0}
    assert log_end(cells[1], tmp_path) == ["seed 1"]


def test_an_interrupt_reaches_the_cells_and_starts_no_more(tmp_path: Path) -> None:
    cells = sweep(tmp_path, seeds=[0, 1])
    codes: list[int] = []
    code = (
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(130))\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(60)"
    )

    def interrupt() -> None:
        while not (tmp_path / "up").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_cells(
            cells,
            tmp_path,
            parallel=1,
            ended=lambda _, ending: codes.append(ending),
            make=lambda *_: [sys.executable, "-c", code, str(tmp_path / "up")],
        )
    assert codes == [130]


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_fails_if_its_cell_does(tmp_path: Path, code: int) -> None:
    arguments = [sys.executable, "-c", f"print('here'); raise SystemExit({code})"]
    log = tmp_path / "logs" / "cell.log"
    with pytest.raises(subprocess.CalledProcessError) if code else nullcontext():
        run_job(arguments, str(log))
    assert log.read_text() == "here\n"


def test_jobs_are_judged_by_their_manifests_and_no_pickle_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit's `result` and `exception` unpickle what the job wrote; the fake has neither."""
    cells = sweep(tmp_path, seeds=[0, 1])
    submitted = []

    class Job:
        def done(self) -> bool:
            return True

    class Executor:
        def __init__(self, **given: Any) -> None:
            self.given = given

        def update_parameters(self, **given: Any) -> None:
            submitted.append(given)

        def batch(self) -> AbstractContextManager[None]:
            return nullcontext()

        def submit(self, function: Any, arguments: list[str], log: str) -> Job:
            submitted.append((function, log))
            return Job()

    fake = ModuleType("submitit")
    fake.AutoExecutor = Executor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "submitit", fake)
    finish(cells[0], 0.5)
    codes: dict[str, int] = {}
    submit_cells(
        cells,
        tmp_path / "out",
        cluster="local",
        parallel=2,
        parameters={"timeout_min": 5},
        ended=lambda cell, code: codes.update({cell.name: code}),
    )
    assert codes == {"seed=0": 0, "seed=1": 1}
    assert submitted[0] == {"timeout_min": 5, "slurm_array_parallelism": 2}
    assert submitted[1] == (run_job, str(tmp_path / "out" / "logs" / "seed=0.log"))


def test_jobs_without_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(EnvironmentFault, match=r"(?s)not installed.*distill-podd\[sweep\]"):
        submit_cells(
            [],
            tmp_path / "out",
            cluster="local",
            parallel=None,
            parameters={},
            ended=lambda *_: None,
        )
    assert not (tmp_path / "out").exists()
