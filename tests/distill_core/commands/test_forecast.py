"""Forecasts: said before the first step, and a long run on a CPU needs `--yes`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from distill_core.commands import forecast as forecasts
from distill_core.commands.forecast import HOUR, forecast
from distill_core.commands.run import run
from distill_core.contracts.algorithm import DivergenceError, Estimate
from registry import InputError
from tests.distill_core.small_run import installed, small_assembly, small_config


@dataclass
class Paced:
    """An algorithm that predicts this many seconds for a step; None: it cannot."""

    seconds: float | None

    def estimate(self, synthetic: Any, *, rng: Any) -> Estimate | None:
        return None if self.seconds is None else Estimate(self.seconds, 1, "by hand")


class Diverging:
    def estimate(self, synthetic: Any, *, rng: Any) -> Estimate | None:
        raise DivergenceError("numbers ran away.")


ASSEMBLY = small_assembly(steps=1000)


def told(algorithm: Any, longest: float | None = HOUR, **more: Any) -> list[str]:
    """Return what is told of a run of 1000 steps."""
    changed, lines = ASSEMBLY.config.model_copy(update=more.pop("config", {})), list[str]()
    assembly: Any = replace(ASSEMBLY, config=changed, new_algorithm=lambda: algorithm)
    forecast(assembly, more.pop("state", {}), longest=longest, tell=lines.append)
    return lines


def test_a_long_run_without_limit_is_refused_with_what_helps() -> None:
    with pytest.raises(InputError) as caught:
        told(Paced(28.0))
    assert caught.value.what == "the run would take about 7 h 46 min on this CPU."
    for way in ("--yes", "--minutes 30", "own-cpu-minutes"):
        assert way in caught.value.next


@pytest.mark.parametrize(
    ("threads", "load", "said"), [(2, 9.0, True), (1, 9.0, False), (2, 0.1, False)]
)
def test_a_busy_machine_is_named(
    monkeypatch: pytest.MonkeyPatch, threads: int, load: float, said: bool
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load), raising=False)
    monkeypatch.setattr(forecasts, "count_cores", lambda: 2)
    with pytest.raises(InputError) as caught:
        told(Paced(150.0))
    assert ("a load of 9 on 2" in caught.value.next) == said
    assert ("run.threads=1" in caught.value.next) == said
    assert caught.value.next.startswith("Other programs" if said else "pass --yes")
    lines = told(Paced(150.0), config={"minutes": 8.0})  # it is made all the same, with a word
    assert any("run.threads=1" in line for line in lines) == said
    assert len(lines) == 1 + said


def test_it_is_said_and_a_word_or_a_limit_is_enough() -> None:
    assert told(Paced(28.0), None) == ["cost     one outer step: 28 s; 1000 steps: 7 h 46 min"]
    assert told(Paced(0.5)) == ["cost     one outer step: 0.5 s; 1000 steps: 8 min 20 s"]
    limited = told(Paced(28.0), config={"minutes": 90.0})
    assert limited == ["cost     one outer step: 28 s; about 193 steps in 1 h 30 min"]
    late = told(Paced(28.0), state={"step": 900, "seconds": 10.0})
    assert late == ["cost     one outer step: 28 s; 100 steps: 46 min 40 s"]
    spent = told(Paced(28.0), config={"minutes": 1.0}, state={"step": 9, "seconds": 61.0})
    assert spent == []  # no step is left


@pytest.mark.parametrize("algorithm", [Paced(None), Diverging()])
def test_what_cannot_be_predicted_is_not_refused(algorithm: Any) -> None:
    assert told(algorithm) == (
        ["cost     not predicted: numbers ran away."] if isinstance(algorithm, Diverging) else []
    )
    assert told(Paced(1e9), config={"steps": 10}) == []


def test_a_forecast_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for few in (10**9, 1):
        monkeypatch.setattr(forecasts, "FEW", few)
        out = tmp_path / str(few)
        quick = {"nets": 1, "controls": False, "steps": 1}
        config = small_config(steps=3, device="cpu", evaluate=quick)
        run(config, installed(), out, resume=False, overwrite=False, quiet=True)
        made.append((out / "distilled.safetensors").read_bytes())
    assert made[0] == made[1]
