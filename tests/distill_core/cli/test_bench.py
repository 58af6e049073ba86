"""`distill bench`: a table, or JSON, of what outer steps cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from distill_core.cli.bench import row
from distill_core.commands import bench
from distill_core.commands.bench import Line
from registry import InputError
from tests.distill_core.cli.fakes import distill, spiral, use
from tests.distill_core.fake_card import fake_card

LINE = Line(
    preset="quick",
    device="cpu",
    path="auto",
    engine="by hand",
    threads=2,
    seconds=1.5,
    phases={"there": 0.5, "back": 1.0},
    memory=3 * 2**20,
    process=2**30,
    processes=2,
    speed_up=1.25,
    measured="nothing was run.",
)
ERROR = InputError("it cannot be had.", expected="more.", next="look.")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace what measures by something that notes what it is asked."""
    use(monkeypatch, "bench", ("helix", spiral()))
    calls: list[Any] = []

    def measure(
        presets: Any, plugins: Any, paths: Any, *, device: str
    ) -> Iterator[Line | InputError]:
        calls.append((list(presets), list(paths), device))
        yield ERROR
        yield LINE

    monkeypatch.setattr(bench, "bench", measure)
    monkeypatch.setattr(bench, "selection", lambda presets, plugins: list(presets)[:1])
    return calls


def test_a_table(asked: list[Any]) -> None:
    result = distill("bench")
    assert result.exit_code == 0, result.output
    assert [[cell.strip() for cell in line.split("\t")] for line in result.stdout.splitlines()] == [
        ["preset", "engine", "seconds", "of these", "memory", "processes"],
        [
            "quick",
            "by hand, 2 threads",
            "1.5",
            "there 0.5, back 1",
            "3 MiB beside 1.00 GiB",
            "2: 1.25 times",
        ],
    ]
    assert result.stderr.splitlines() == [*str(ERROR).splitlines(), "quick: 1.5 s"]
    assert asked == [(["quick"], ["auto", "autograd"], "auto")]


def test_json_has_everything(asked: list[Any]) -> None:
    result = distill("bench", "--all", "--path", "kernels", "--json", "--device", "cpu")
    record = json.loads(result.stdout)
    assert record["lines"] == [asdict(LINE)]
    assert "torch" in record["versions"]
    assert set(record["hardware"]) >= {"name", "cores", "threads", "allocator", "vectors"}
    assert asked == [(["quick"], ["kernels"], "cpu")]


def test_a_preset_by_name_must_be_there_and_possible(asked: list[Any]) -> None:
    result = distill("bench", "--preset", "qick")
    assert result.exit_code == 2
    assert "Did you mean 'quick'?" in result.stderr
    result = distill("bench", "--preset", "quick")
    assert result.exit_code == 2
    assert result.stderr == f"{ERROR}\n"


def test_a_card_is_named(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fake_card(monkeypatch, name="NVIDIA H100")
    record = json.loads(distill("bench", "--json", "--device", "cuda").stdout)
    assert asked[0][2] == "cuda"
    assert record["hardware"]["name"] == "NVIDIA H100"
    assert row(replace(LINE, device="NVIDIA H100"))[1] == "by hand on NVIDIA H100"


def test_a_device_that_is_not_there_is_one_mistake(asked: list[Any]) -> None:
    result = distill("bench", "--device", "gpu")
    assert result.exit_code == 2
    assert "device 'gpu' cannot be used" in result.stderr
    assert asked == []
