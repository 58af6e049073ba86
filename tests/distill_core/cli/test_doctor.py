"""`distill doctor`: one line for each thing, and an exit code that says whether a run can be."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch

from distill_core.commands import doctor
from distill_core.commands.doctor_card import OVERRIDE, examine_device
from distill_core.engine.kernels.native import Unavailable, outcome
from tests.distill_core.cli.fakes import distill
from tests.distill_core.fake_card import fake_card


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
    assert {"torch", "device", "threads", "cache", "decoded pictures", "plugins", "speed"} <= set(
        found
    )
    assert all(bool(f["next"]) == (f["state"] != "ok") for f in found.values())
    assert list(tmp_path.iterdir()) == []


def test_packages_that_were_not_built_together_are_a_row_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # its import fails
    findings = [*doctor._versions(), *doctor._safely(doctor._built_together)]
    names = [finding.what for finding in findings]
    assert len(names) == len(set(names))
    assert (findings[-1].what, findings[-1].state) == ("built together", "broken")


def test_decoded_pictures_are_shown_and_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "pictures" / "0123"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    (folder / "train_images.bin").write_bytes(bytes(2**20 - 2))
    (finding,) = doctor._pictures()
    assert "1 set in" in finding.found
    assert "1 MiB of 20.00 GiB" in finding.found
    result = distill("doctor", "--clear-pictures")
    assert result.output == "1 MiB of decoded pictures deleted from the cache\n"
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "file"))
    result = distill("doctor")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("cache")]
    assert "broken" in line
    assert "set DISTILL_CACHE" in line


def test_a_file_that_a_run_deletes_while_the_cache_is_counted_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / "experts"
    folder.mkdir(parents=True)
    (folder / "kept").write_bytes(bytes(2**20))
    (folder / "half.part").write_bytes(bytes(9))
    look = Path.stat

    def stat(path: Path, **how: Any) -> Any:
        found = look(path, **how)
        if path.name == "half.part":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "stat", stat)
    (finding,) = doctor._safely(doctor._cache)
    assert (finding.what, finding.state) == ("cache", "ok")
    assert "1 MiB" in finding.found
    assert not (folder / "half.part").exists()


def test_lines_come_while_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    def slow() -> Iterator[doctor.Finding]:
        yield doctor.Finding("first", "ok", "there")
        assert [line.split("\t")[0].strip() for line in lines] == ["what", "first"]
        yield doctor.Finding("second", "warn", "slow", "wait")

    monkeypatch.setattr(doctor, "examine", slow)
    monkeypatch.setattr(click, "echo", lines.append)
    assert not distill("doctor").exception
    assert lines[2].split() == ["second", "warn", "slow", "wait"]


def test_a_check_that_fails_is_a_finding() -> None:
    def _odd() -> Iterator[doctor.Finding]:
        raise RuntimeError("no such thing")
        yield

    (finding,) = doctor._safely(_odd)
    assert (finding.what, finding.state) == ("odd", "broken")
    assert "no such thing" in finding.found


def found_of_device(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> dict[str, doctor.Finding]:
    fake_card(monkeypatch, **facts)
    monkeypatch.setattr("distill_core.commands.doctor_card.driver", lambda: "580.82.07")
    return {finding.what: finding for finding in examine_device()}


def test_a_card_that_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OVERRIDE, raising=False)
    monkeypatch.setattr("distill_core.commands.doctor_card.check", lambda device: None)
    found = found_of_device(monkeypatch, count=4)
    assert [(what, finding.found) for what, finding in found.items()] == [
        ("device", "cuda (NVIDIA H100, compute capability 9.0, one of 4)"),
        ("card's memory", "40.00 GiB of 80.00 GiB free"),
        ("CUDA", "driver 580.82.07, PyTorch for CUDA 13.0, cuDNN 92400"),
        ("arithmetic", "TensorFloat-32 and bfloat16 (compute capability 9.0)"),
        ("CUDA kernels", "compiled by Triton and tried"),
    ]
    assert {(finding.state, finding.next) for finding in found.values()} == {("ok", "")}


def test_a_card_that_lacks_much(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(device: torch.device) -> None:
        raise Unavailable("there is no Triton", next="install it")

    monkeypatch.setenv(OVERRIDE, "1")
    monkeypatch.setattr("distill_core.commands.doctor_card.check", missing)
    facts = {"free": 2**30, "capability": (7, 5), "built_for": ("sm_75",), "cudnn": None}
    found = found_of_device(monkeypatch, **facts)
    assert found.pop("device").state == "ok"
    assert {finding.state for finding in found.values()} == {"warn"}
    assert all(finding.next for finding in found.values())
    assert found["arithmetic"].found.startswith("float32 alone (compute capability 7.5)")
    assert "cuDNN missing" in found["CUDA"].found
    assert found["CUDA kernels"].found.startswith("there is no Triton; runs use autograd")


def test_a_card_that_cannot_be_used_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of_device(monkeypatch, capability=(3, 5))
    assert found.keys() == {"device"}
    assert found["device"].state == "warn"
    assert "has no code for NVIDIA H100" in found["device"].found
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: False)
    (plain,) = examine_device()
    assert plain.state == "ok"
    assert plain.found.startswith("cpu, no CUDA device: this PyTorch")
