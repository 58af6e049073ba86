"""What `distill bench` measures: structure and counts, never times."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from threading import BrokenBarrierError

import pytest
import torch

from distill_core.commands import bench as bench_module
from distill_core.commands.bench import (
    Line,
    assemble_on_noise,
    bench,
    measure,
    rate_of_processes,
    selection,
)
from distill_core.config.discovery import collect_presets
from distill_core.config.run_config import RunConfig
from distill_core.config.settings import merge
from distill_core.hookspecs import Preset
from distill_core.system.out_of_memory import OutOfMemory
from registry import InputError
from tests.distill_core.small_run import SMALL, installed, small_config
from tests.forks import SERVER


def test_one_preset_of_each_kind_of_cost() -> None:
    found = collect_presets(installed())
    chosen = selection(found, installed())
    datasets = {preset.config["dataset"] for preset in found.values() if preset.benched}
    assert datasets == {found[name].config["dataset"] for name in chosen}
    assert len(chosen) < len(found) / 3
    assert all(found[name].benched for name in chosen)
    assert not all(preset.benched for preset in found.values())
    assert chosen[0] == next(name for name, preset in found.items() if preset.benched)


def test_a_line_has_phases_that_add_up() -> None:
    line = measure("small", small_config(), installed())
    assert set(line.phases) == {"inner steps", "outer loss", "way back"}
    assert line.seconds == pytest.approx(sum(line.phases.values()))
    assert line.memory > 0
    assert line.processes == 0
    assert line.preset == "small"


def test_no_files_and_no_orderer_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = small_config(dataset="cub200", ipc=0.9, options={"dataset": {"size": 8}})
    assembly = assemble_on_noise(config, installed())
    assert assembly.real.spec.num_classes == 200
    assert assembly.placement.class_grid.flatten().tolist() == list(range(200))


def test_both_paths_of_a_preset_and_no_path_twice() -> None:
    small = {"small": Preset("small", "", SMALL)}
    lines = list(bench(small, installed(), ("auto", "autograd", "autograd"), processes=False))
    assert all(isinstance(line, Line) for line in lines)
    engines = [line.engine for line in lines if isinstance(line, Line)]
    assert len(engines) == len(set(engines))
    assert engines[-1] == "autograd"


def test_a_dataset_that_needs_its_files_is_named() -> None:
    folder = {"dataset": "imagefolder", "options": {"dataset": {"path": "x"}}}
    settings = merge(SMALL, folder)
    found = list(bench({"own": Preset("own", "", settings)}, installed(), ("auto",)))
    (error,) = found
    assert isinstance(error, InputError)
    assert "dataset 'imagefolder' has no outline" in error.what


def test_processes_work_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.get_context", {"spawn": SERVER}.get)  # quicker to start
    assert rate_of_processes(small_config(), 2) > 0


@pytest.mark.parametrize("error", [BrokenProcessPool, BrokenBarrierError])
def test_processes_that_end_cost_no_line(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(config: object, number: int) -> float:
        raise error

    monkeypatch.setattr("distill_core.commands.bench.rate_of_processes", end)
    monkeypatch.setattr("distill_core.commands.bench.count_cores", lambda: 2)
    line = measure("small", small_config(), installed(), processes=True)
    assert line.processes == 0
    assert line.speed_up == 0
    assert line.measured.endswith("Of 2 processes at once one ended, perhaps for want of memory.")


def test_a_preset_that_does_not_fit_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another device is asked for than the preset's, and the card has no room for one of them."""
    asked = []

    def measure(name: str, config: RunConfig, plugins: object, *, processes: bool) -> Line:
        asked.append(config.device)
        if name == "large":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(name, config.model_copy(update={"device": "cpu"}), installed())

    real = bench_module.measure
    monkeypatch.setattr(bench_module, "measure", measure)
    presets = {name: Preset(name, "", SMALL) for name in ("large", "small")}
    error, line = bench(presets, installed(), ("auto",), device="cuda", processes=False)
    assert asked == ["cuda", "cuda"]
    assert isinstance(error, OutOfMemory)
    assert error.next == "`distill run --preset large --max-memory` chooses what fits."
    assert isinstance(line, Line)
    assert line.device == "cpu"
