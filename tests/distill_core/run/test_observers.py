from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.artefact.contents import SNAPSHOTS
from distill_core.run import divergence
from distill_core.run.loop import OuterLoop
from distill_core.run.observers import (
    MetricsFile,
    Snapshots,
    TensorBoardLog,
    snapshots_of,
)
from tests.distill_core.small_run import small_assembly


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_for_every_step_and_evaluation(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.after_step(1, {"loss": 2.5})
    file.after_validation(1, [0.25, 0.75])
    file.write({"kind": "evaluation", "step": 1})
    assert read(file.path) == [
        {"kind": "step", "step": 1, "loss": 2.5},
        {"kind": "validation", "step": 1, "accuracy": 0.5, "accuracies": [0.25, 0.75]},
        {"kind": "evaluation", "step": 1},
    ]


@given(written=st.integers(0, 8), saved=st.integers(0, 8), half=st.booleans())
def test_steps_that_are_done_again_are_dropped(written, saved, half, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    file = MetricsFile(path)
    for step in range(1, written + 1):
        file.after_step(step, {"loss": float(step)})
    if half:
        with path.open("a") as stream:
            stream.write('{"kind": "step", "st')
    again = MetricsFile(path, step=saved)
    again.after_step(saved + 1, {"loss": 0.0})
    steps = [line["step"] for line in read(path)]
    assert steps == [*range(1, min(written, saved) + 1), saved + 1]


def test_tensorboard_can_be_read_back(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TensorBoardLog(tmp_path)
    log.after_step(1, {"loss": 2.0})
    log.after_step(2, {"loss": 1.0})
    log.after_validation(2, [0.75])
    log.picture("poster", np.zeros((4, 6, 3), dtype=np.uint8), 2)
    log.settings({"repr": "poster"}, {"distilled": 0.5})
    log.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("outer/loss")] == [2.0, 1.0]
    assert events.Scalars("validation/accuracy")[0].value == 0.75
    assert events.Images("poster")[0].width == 6
    assert all(path.parent == tmp_path for path in tmp_path.rglob("events*"))


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
    foreign = tmp_path / SNAPSHOTS / "step_notes.png"
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
