"""Pictures of a run: those of steps that are done again make way for new ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.run import divergence
from distill_core.run.loop import OuterLoop
from distill_core.run.snapshots import FOLDER, Snapshots, snapshots_of
from tests.distill_core.small_run import small_assembly


def steps(run_dir: Path) -> list[int]:
    return [int(path.stem.removeprefix("step_")) for path in snapshots_of(run_dir)]


def loop_with_snapshots(run_dir: Path, **changes: Any) -> OuterLoop:
    loop = OuterLoop(small_assembly(snapshots=7, steps=6, **changes), run_dir)
    snapshots = Snapshots(run_dir, lambda: loop.result)
    loop.observers.append(snapshots)
    snapshots.save_if_due(0)
    return loop


def test_going_on_removes_what_came_after_the_saved_step(tmp_path: Path) -> None:
    loop = loop_with_snapshots(tmp_path)
    loop.run()
    assert steps(tmp_path) == [0, 1, 2, 3, 4, 5, 6]
    foreign = tmp_path / FOLDER / "step_notes.png"
    foreign.touch()
    Snapshots(tmp_path, lambda: loop.result, step=3)
    assert steps(tmp_path) == [0, 1, 2, 3]
    assert foreign.exists()


def test_a_run_that_goes_back_takes_the_pictures_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divergence, "EVERY", 2)
    loop = loop_with_snapshots(tmp_path, on_divergence="halve-lr")
    algorithm: Any = loop.assembly.algorithm
    step_of, before = algorithm.outer_step, {}

    def outer_step(synthetic: Any, *, step: int, rng: Any) -> Mapping[str, Any]:
        metrics: Mapping[str, Any] = step_of(synthetic, step=step, rng=rng)
        if step == 5 and loop.schedule.scale == 1.0:
            before.update({path.name: path.read_bytes() for path in snapshots_of(tmp_path)})
            gradient = loop.groups["data"][0].grad
            assert gradient is not None
            gradient.view(-1)[0] = torch.nan
        return metrics

    algorithm.outer_step = outer_step
    assert loop.run()
    assert loop.divergences[0]["back_to"] == 2
    assert steps(tmp_path) == [0, 1, 2, 3, 4, 5, 6]
    same = [path.read_bytes() == before.get(path.name) for path in snapshots_of(tmp_path)]
    assert same == [True, True, True, False, False, False, False]  # at half the rates
