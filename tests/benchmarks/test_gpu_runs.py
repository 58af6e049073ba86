"""benchmarks/gpu_runs.py follows the process of a run: it packs, and stops it in time."""

from __future__ import annotations

import shlex
import signal
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_runs

    monkeypatch.setattr(gpu_runs, "LOOK", 0.02)
    return gpu_runs


def follow(runs: Any, script: str, out: Path, seconds: float) -> int:
    job = SimpleNamespace(work=out / "work", out=out)
    status = runs.follow(["sh", "-c", script], job, time.monotonic() + seconds)
    assert isinstance(status, int)
    return status


def test_the_status_is_that_of_the_run(runs: Any, tmp_path: Path) -> None:
    assert follow(runs, "exit 3", tmp_path, 60) == 3


def test_out_of_time_a_run_may_save_its_state(runs: Any, tmp_path: Path) -> None:
    saved = shlex.quote(str(tmp_path / "saved"))
    script = f"trap 'echo state > {saved}; exit 130' TERM; while :; do sleep 0.05; done"
    assert follow(runs, script, tmp_path, 0.5) == 130
    assert (tmp_path / "saved").exists()


def test_a_run_that_does_not_end_is_killed(runs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(runs, "STOP", 0.2)
    script = "trap '' TERM; while :; do sleep 0.05; done"
    assert follow(runs, script, tmp_path, 0.5) == -signal.SIGKILL


def test_what_is_reached_is_packed_meanwhile(runs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(runs, "EVERY", 0.05)
    run = tmp_path / "work" / "runs" / "one"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text("{}")
    assert follow(runs, "sleep 0.5", tmp_path, 60) == 0
    with tarfile.open(tmp_path / runs.PACK) as packed:
        assert packed.getnames() == ["one/manifest.json"]
