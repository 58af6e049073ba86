"""`distill doctor`: one line for each thing, and an exit code that says whether a run can be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill_core import doctor
from distill_core.kernels.native import outcome
from tests.distill_core.cli.fakes import distill


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(doctor, "SPEED_SECONDS", 0.01)
    monkeypatch.setenv("DISTILL_KERNELS", "off")
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    outcome.cache_clear()
    yield
    outcome.cache_clear()


def test_a_machine_that_can_run(tmp_path: Path) -> None:
    result = distill("doctor", "--json")
    found = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 0, result.stdout
    assert found["C kernels"]["state"] == "warn"
    assert "DISTILL_KERNELS is off" in found["C kernels"]["found"]
    assert {"torch", "device", "threads", "cache", "plugins", "speed"} <= set(found)
    assert all(bool(f["next"]) == (f["state"] != "ok") for f in found.values())
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "file"))
    result = distill("doctor")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("cache")]
    assert "broken" in line
    assert "set DISTILL_CACHE" in line


def test_a_check_that_fails_is_a_finding() -> None:
    def _odd() -> Iterator[doctor.Finding]:
        raise RuntimeError("no such thing")
        yield

    (finding,) = doctor._safely(_odd)
    assert (finding.what, finding.state) == ("odd", "broken")
    assert "no such thing" in finding.found
