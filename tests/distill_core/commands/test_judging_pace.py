"""After the first network of a row is said how long the others take, where that is long."""

from __future__ import annotations

import pytest
import torch

from distill_core.commands import judging_pace
from distill_core.commands.judging_pace import Pace
from distill_core.config.sections import EvaluateOptions
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import Batch
from distill_core.evaluation.judge import Candidate

CANDIDATE = Candidate(Batch(torch.zeros(1), torch.zeros(1)), Recipe(), 1.0, step=1)
BY_BYTES = Candidate(CANDIDATE.batch, Recipe(), 1.0, step=1, bytes=9)
LAST = ", then come those on the full training set"


@pytest.mark.parametrize(
    ("candidate", "options", "seconds", "said"),
    [
        (CANDIDATE, {"nets": 8}, 40, f"took 40 s; about 10 min 00 s for the next 15{LAST}"),
        (
            BY_BYTES,
            {"nets": 2},
            600,
            f"took 10 min 00 s; about 50 min 00 s for the next 5{LAST}",
        ),
        (CANDIDATE, {"nets": 3, "controls": False}, 10, "took 10 s; about 20 s for the next 2"),
        (CANDIDATE, {"nets": 8}, 1, None),
        (CANDIDATE, {"nets": 1, "controls": False}, 999, None),
    ],
)
def test_the_time_of_the_others_is_said_once(
    candidate: Candidate,
    options: dict[str, int],
    seconds: int,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    passed: list[int] = []
    clock = iter(range(0, 99 * seconds, seconds))
    monkeypatch.setattr(judging_pace, "monotonic", lambda: next(clock))
    found = Pace(lines.append, lambda name, net, accuracy: passed.append(net))
    found.begin("timm:resnet18: ", candidate, EvaluateOptions.model_validate(options))
    for net in range(3):
        found.after_net("timm:resnet18, distilled", net, 0.5)
    assert lines == ([f"timm:resnet18: the first network {said}"] if said else [])
    assert passed == [0, 1, 2]


def test_processes_share_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    clock = iter((0, 60))
    monkeypatch.setattr(judging_pace, "monotonic", lambda: next(clock))
    found = Pace(lines.append, lambda name, net, accuracy: None, processes=2)
    found.begin("judging  ", CANDIDATE, EvaluateOptions(nets=4, controls=False))
    found.after_net("distilled", 0, 0.5)
    assert lines == ["judging  the first network took 1 min 00 s; about 1 min 00 s for the next 2"]
