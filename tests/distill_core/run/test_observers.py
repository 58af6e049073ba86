from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.run.observers import MetricsFile, TensorBoardLog


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
