"""Sweeps: the grid is checked whole, names are stable, and nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli_w

from distill_core.commands import sweep_cells, sweep_table
from distill_core.commands.sweep import Cell, cell_name, read_sweep
from distill_core.commands.sweep_cells import (
    command,
    lock_log,
    log_end,
    log_path,
    run_job,
    start_or_resume,
    submit_cells,
)
from distill_core.commands.sweep_queue import run_cells
from distill_core.commands.sweep_table import not_alike, records, rows, save
from distill_core.config.run_config import to_toml
from distill_core.run.lock import lock_run_dir
from registry import EnvironmentFault, ExplainedError, InputError, OptionError, UnknownNameError
from tests.distill_core.small_run import SMALL, installed


def sweep(folder: Path, **entries: Any) -> list[Cell]:
    file = folder / "sweep.toml"
    file.write_text(tomli_w.dumps({"base": SMALL, **entries}))
    return read_sweep(file, folder / "out", installed())


def finish(cell: Cell, accuracy: float) -> None:
    cell.run_dir.mkdir(parents=True, exist_ok=True)
    (cell.run_dir / "run.toml").write_text(to_toml(cell.config))
    results = {"distilled": {"mean": accuracy}}
    record = {"format": 1, "results": results, "storage": {"bytes": 2020, "ipc_bytes": 0.3}}
    (cell.run_dir / "manifest.json").write_text(json.dumps(record))


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


def test_base_takes_the_names_of_the_grid(tmp_path: Path) -> None:
    (cell,) = sweep(tmp_path, base={**SMALL, "algo.window": 3, "evaluate.nets": 5, "run.ema": 0.5})
    config = cell.config
    found = config.written_options()["algo"]["window"], config.evaluate.nets, config.ema
    assert found == (3, 5, 0.5)
    assert config.written_options()["algo"]["total"] == 4
    bare = {name: value for name, value in SMALL.items() if name != "options"}
    assert sweep(tmp_path, base={**bare, "backbone.width": 3})


def test_an_error_says_where_to_correct_it(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        sweep(tmp_path, base={**SMALL, "algo.windw": 3}, seeds=[0, 1])
    what = "cell seed=0: unknown option algo.windw. Did you mean 'algo.window'?"
    assert caught.value.what == what
    assert caught.value.next == (
        f"correct {tmp_path}/sweep.toml, whose names are those of -o (pass -o algo.window=VALUE; "
        "`distill show algorithm ratbptt` explains the options)."
    )


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
    for cell in (second, third):
        (cell.run_dir / "run.toml").write_text(to_toml(cell.config))
    assert [cell.state() for cell in (first, second, third)] == ["done", "interrupted", "new"]
    assert "--resume" in command(second, tmp_path)
    assert "--resume" in command(third, tmp_path)  # it begins then with its first step
    (third.run_dir / "run.toml").unlink()
    assert "--config" in command(third, tmp_path)


def test_a_cell_is_done_when_its_further_networks_have_judged(tmp_path: Path) -> None:
    """A run has its own results first; it may be ended while others judge, which takes hours."""
    names = ["convnet", "timm:resnet18", "timm:vit_tiny_patch16_224"]
    (cell,) = sweep(tmp_path, base={**SMALL, "backbone": names})
    finish(cell, 0.5)
    manifest = cell.run_dir / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "outer_steps": 4}))
    checkpoint = cell.run_dir / "checkpoint" / "state.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"")
    log = tmp_path / "log"
    for steps, judged in ((4, names[1:2]), (3, names[1:]), (4, names[1:])):
        assert cell.state() == "interrupted"
        with pytest.raises(subprocess.CalledProcessError):
            run_job(str(cell.run_dir), "", ["--no-such-option"], str(log), cell.judges)
        results = {name: {"distilled": {"mean": 0.5, "accuracies": [0.5]}} for name in judged}
        settings = {name: {"backbone": name, "options": {}} for name in judged}
        body = {"outer_steps": steps, "settings": settings, "results": results}
        (cell.run_dir / "evaluation").mkdir(exist_ok=True)
        file = cell.run_dir / "evaluation" / f"{steps}-{len(judged)}.json"
        file.write_text(json.dumps(body))
    assert cell.state() == "done"
    before = log.read_bytes()
    run_job(str(cell.run_dir), "", ["--no-such-option"], str(log), cell.judges)
    assert log.read_bytes() == before


def test_nothing_that_is_there_is_deleted_and_a_cell_is_computed_where_the_file_says(
    tmp_path: Path,
) -> None:
    (cell,) = sweep(tmp_path, base={**SMALL, "threads": 2})
    finish(cell, 0.5)
    words = command(cell, tmp_path)
    assert "--overwrite" not in words
    assert "run.threads=2" in words
    assert "run.device=auto" in words
    assert not any(word.startswith("run.steps") for word in words)


def test_a_cell_made_with_other_settings_is_not_taken_for_this_one(tmp_path: Path) -> None:
    (cell,) = sweep(tmp_path, grid={"ipc": [0.8]})
    finish(cell, 0.5)
    assert sweep(tmp_path, grid={"ipc": [0.8]}, base={**SMALL, "threads": 1})[0].state() == "done"
    with pytest.raises(InputError, match=r"made with steps = 4, not 5"):
        sweep(tmp_path, grid={"ipc": [0.8]}, base={**SMALL, "steps": 5})


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_a_pipe_or_a_link_in_the_place_of_a_file_is_refused(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    (cell,) = sweep(tmp_path)
    cell.run_dir.mkdir(parents=True)
    (cell.run_dir / "elsewhere").write_text(to_toml(cell.config))
    put(cell.run_dir / "run.toml")
    with pytest.raises(InputError, match=r"run\.toml is a (pipe|link)"):
        sweep(tmp_path)
    log = log_path(cell, tmp_path)
    log.parent.mkdir()
    put(log)
    assert log_end(cell, tmp_path) == []
    for start in (
        lambda: run_cells([cell], tmp_path, parallel=1, ended=lambda cell, code: None),
        lambda: run_job(str(cell.run_dir), "config.toml", [], str(log)),
    ):
        with pytest.raises(InputError, match=r"log is a (pipe|link)"):
            start()
    assert not (log.parent / "elsewhere").exists()


def test_no_more_than_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    (cell,) = sweep(tmp_path)
    log = log_path(cell, tmp_path)
    log.parent.mkdir()
    log.write_bytes(b"1\n2\n" + b"\xff" * 2**20 + b"\n3\n")
    cut, last = log_end(cell, tmp_path)
    assert last == "3"
    assert len(cut) < 2**16


def test_the_table_has_means_over_seeds(tmp_path: Path) -> None:
    cells = sweep(tmp_path, grid={"ipc": [0.8, 1.0]}, seeds=[0, 1])
    for cell, accuracy in zip(cells[:3], (0.5, 0.6, 0.7), strict=True):
        finish(cell, accuracy)
    assert rows(cells) == (
        ["ipc", "seeds", "bytes", "distilled", "random", "full"],
        [["0.8", "2/2", "2020", "55.0 +- 7.1", "", ""], ["1", "1/2", "2020", "70.0", "", ""]],
    )
    save(records(cells, {cells[3].name: 2}), tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    assert [record["state"] for record in found] == ["done", "done", "done", "failed"]
    assert found[3]["exit_code"] == 2
    assert [record["bytes"] for record in found] == [2020, 2020, 2020, None]
    assert (found[0]["ipc_bytes"], found[0]["bits_per_class"]) == (0.3, None)
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 5


def test_networks_that_judge_have_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["convnet", "timm:resnet18"]
    cells = sweep(tmp_path, base={**SMALL, "backbone": names}, seeds=[0, 1])
    for cell in cells:
        finish(cell, 0.5)
    found = {"convnet": {"distilled": 0.5}, "timm:resnet18": {"distilled": 0.25}}
    monkeypatch.setattr(sweep_table, "judged_by", lambda cell: found)
    assert rows(cells) == (
        ["network", "seeds", "bytes", "distilled", "random", "full"],
        [
            ["convnet", "2/2", "2020", "50.0 +- 0.0", "", ""],
            ["timm:resnet18", "2/2", "2020", "25.0 +- 0.0", "", ""],
        ],
    )
    assert [record["networks"] for record in records(cells, {})] == [found, found]


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


def test_a_cell_that_another_sweep_runs_is_waited_for_and_not_run_again(tmp_path: Path) -> None:
    """Its process holds the lock of its log, even if the other sweep was killed."""
    first, second = sweep(tmp_path, seeds=[0, 1])
    log = log_path(first, tmp_path)
    log.parent.mkdir()
    told: list[str] = []
    codes: dict[str, int] = {}

    def waits(cell: Cell, owner: str) -> None:
        told.append(f"{cell.name}: {owner}")
        finish(cell, 0.5)  # by the other sweep
        os.close(other)

    def make(cell: Cell, out: Path) -> list[str]:
        assert cell == second
        return [sys.executable, "-S", "-c", ""]

    other = os.open(log, os.O_RDWR | os.O_CREAT)
    assert lock_log(other)
    run_cells(
        [first, second],
        tmp_path,
        parallel=1,
        ended=lambda c, code: codes.update({c.name: code}),
        waits=waits,
        make=make,
    )
    assert codes == {"seed=0": 0, "seed=1": 0}
    assert told == ["seed=0: another sweep"]


def test_a_cell_that_somebody_runs_by_hand_is_waited_for(tmp_path: Path) -> None:
    (cell,) = sweep(tmp_path)
    lock, codes, told = ExitStack(), list[int](), list[str]()
    lock.enter_context(lock_run_dir(cell.run_dir))

    def waits(cell: Cell, owner: str) -> None:
        told.append(owner)
        finish(cell, 0.5)
        lock.close()

    run_cells([cell], tmp_path, parallel=1, ended=lambda _, code: codes.append(code), waits=waits)
    assert codes == [0]
    assert told[0].startswith(f"process {os.getpid()} on ")


def test_a_cell_that_was_refused_since_somebody_took_it_is_tried_again(tmp_path: Path) -> None:
    (cell,) = sweep(tmp_path)
    lock, tries, codes = ExitStack(), list[int](), list[int]()

    def make(cell: Cell, out: Path) -> list[str]:
        tries.append(1)
        if len(tries) == 1:
            lock.enter_context(lock_run_dir(cell.run_dir))
            return [sys.executable, "-S", "-c", "raise SystemExit(2)"]
        return [sys.executable, "-S", "-c", ""]

    run_cells(
        [cell],
        tmp_path,
        parallel=1,
        ended=lambda _, code: codes.append(code),
        waits=lambda *_: lock.close(),
        make=make,
    )
    assert (len(tries), codes) == (2, [0])


DRIVER = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from distill_core.commands.sweep_queue import run_cells
config = SimpleNamespace(procs=1)
run_dir = Path(sys.argv[1]) / "run"
cell = SimpleNamespace(name="cell", state=lambda: "new", run_dir=run_dir, config=config)
code = "import signal, sys; print('up', flush=True); signal.pause()"
make = lambda *_: [sys.executable, "-S", "-c", code]
run_cells([cell], Path(sys.argv[1]), parallel=1, ended=print, make=make)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_cells_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)])
    log = tmp_path / "logs" / "cell.log"
    while not (log.exists() and log.read_text()):
        assert driver.poll() is None
        time.sleep(0.02)
    with log.open("ab") as file:
        assert not lock_log(file.fileno())
        driver.kill()
        driver.wait()
        assert lock_log(file.fileno(), wait=True)  # when the cell has ended


def test_cells_end_if_the_driver_fails(tmp_path: Path) -> None:
    """For example since the pipe is closed to which it says what has ended."""
    cells = sweep(tmp_path, seeds=[0, 1])
    code = "import signal; signal.pause()"

    def fails(*_: object) -> None:
        raise BrokenPipeError

    def make(cell: Cell, out: Path) -> list[str]:
        return [sys.executable, "-S", "-c", "" if cell == cells[0] else code]

    with pytest.raises(BrokenPipeError):
        run_cells(cells, tmp_path, parallel=2, ended=fails, make=make)
    with log_path(cells[1], tmp_path).open("ab") as file:
        assert lock_log(file.fileno())


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
def test_a_job_fails_if_its_cell_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    arguments = [sys.executable, "-c", f"print('here'); raise SystemExit({code})"]
    monkeypatch.setattr(sweep_cells, "start_or_resume", lambda *_: arguments)
    log = tmp_path / "logs" / "cell.log"
    with pytest.raises(subprocess.CalledProcessError) if code else nullcontext():
        run_job(str(tmp_path / "run"), "config.toml", [], str(log))
    assert log.read_text() == "here\n"


def test_a_job_looks_at_its_cell_when_it_starts(tmp_path: Path) -> None:
    """Another job may have begun or finished it since it was submitted."""
    (cell,) = sweep(tmp_path)
    arguments = (str(cell.run_dir), "config.toml", ["-o", "run.device=cpu"])
    assert start_or_resume(*arguments)[-2:] == ["--config", "config.toml"]
    finish(cell, 0.5)
    assert start_or_resume(*arguments)[-3:] == ["--resume", "-o", "run.device=cpu"]
    log = tmp_path / "log"
    run_job(*arguments, str(log))
    assert log.read_text() == ""  # it is done


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

        def submit(self, function: Any, *given: Any) -> Job:
            submitted.append((function, given[3]))
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
