"""benchmarks/gpu.py measures everything on a CPU with tiny sizes, and goes on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.caches import make_cache

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def command(out: Path, *words: str) -> list[str]:
    work = out.parent / "work"
    if not work.exists():
        make_cache(work / "cache")
    return [sys.executable, str(SCRIPT), "--device", "cpu", "--out", str(out), "--work", str(work),
            "--budget", "5", *words]  # fmt: skip


def call(out: Path, *words: str) -> str:
    """What a call prints that leaves nothing undone."""
    done = subprocess.run(command(out, *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr, log(out))
    return done.stdout


def started(out: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command(out, *words), stdout=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], start: str) -> None:
    """Read what is printed up to a line."""
    assert process.stdout is not None
    assert any(line.startswith(start) for line in process.stdout)


def log(out: Path) -> str:
    return (out / "gpu.log").read_text() if (out / "gpu.log").exists() else ""


def book(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "gpu.json").read_text())["parts"]
    return found


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("DISTILL_CACHE", raising=False)


def test_every_part_runs_whole_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = call(out)
    parts = book(out)
    assert list(parts) == [
        "ceilings", "smoke", "exactness", "steps", "memory", "deterministic", "networks", "runs",
    ]  # fmt: skip
    for name, record in parts.items():
        assert record["done"], name
        assert record["cells"], name
        failed = {cell: f["failed"] for cell, f in record["cells"].items() if "failed" in f}
        assert not failed, (failed, log(out))
        assert f"## {name}" in printed
    assert printed.rstrip().endswith(f"written: {out / 'gpu.json'}")
    assert (out / "gpu.md").read_text().strip() in printed
    assert "inner step" in (out / "profile.txt").read_text()
    # The gradients that parts compare are those of one problem, by several paths.
    smoke = parts["smoke"]["cells"]
    assert all(found["equal"] is True and found["resumed apart"] == 0 for found in smoke.values())
    assert {"ratbptt", "mtt", "frepo", "dm"} <= set(smoke)
    exact = parts["exactness"]["cells"]
    assert 0 < exact["autograd, fp32"]["pixels, relative error"] < 1e-4
    assert parts["deterministic"]["cells"]["autograd, deterministic"]["equal bits"] is True
    # A run goes on where it was, also where only the packed results are.
    before = parts["runs"]["cells"]["shapes"]
    assert before["networks"] == 2
    assert len(os.listdir(out)) <= 8  # so many files come back from a lent machine
    moved = tmp_path / "elsewhere" / "out"
    moved.parent.mkdir()
    out.rename(moved)
    call(moved, "runs")
    assert book(moved)["runs"]["cells"]["shapes"]["outer steps"] > before["outer steps"]


def test_finished_parts_survive_a_kill_and_an_unfinished_one_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    call(out, "ceilings")
    first = book(out)["ceilings"]
    with started(out, "ceilings", "exactness") as process:
        wait_for(process, "  autograd, fp32:")  # a cell of the second part
        process.kill()
    parts = book(out)
    assert parts["ceilings"] == first
    kept = parts["exactness"]["cells"]
    assert not parts["exactness"]["done"]
    assert kept
    printed = call(out, "ceilings", "exactness")
    assert "ceilings: there already" in printed
    assert not [line for line in printed.splitlines() if line.startswith("  autograd, fp32: 1 +")]
    parts = book(out)
    assert parts["ceilings"] == first
    assert parts["exactness"]["done"]
    assert {name: parts["exactness"]["cells"][name] for name in kept} == kept


def test_sigterm_ends_the_processes_that_measure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(out, "exactness") as process:
        wait_for(process, "  ")
        process.terminate()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    record = book(out)["exactness"]
    assert record["said"] == "stopped"
    assert not record["done"]
    assert not [name for name in _commands() if str(out) in name]


def _commands() -> list[str]:
    """The command lines of all processes, where the system has them."""
    time.sleep(0.2)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text())
        except OSError:
            continue
    return found


def test_a_mistake_is_explained(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "ceiling"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no part ceiling; there are ceilings, smoke" in done.stderr
