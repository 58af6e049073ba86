"""The tables of docs/results-details.md: what each run is begun with, and how it goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distill_core.cli import run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results

    return results


def test_a_run_that_was_killed_before_its_first_checkpoint_is_gone_on_with(
    results, tmp_path, monkeypatch
):
    """`distill run` writes run.toml first, and refuses to begin in a directory that has it."""
    commands: list[list[str]] = []
    monkeypatch.setattr(
        results,
        "subprocess",
        SimpleNamespace(run=lambda words, check: commands.append(words[4:])),
    )
    args = SimpleNamespace(out=tmp_path, seed=3, minutes=2.5)
    name, words = next(iter(results.digits(args).items()))
    results.run(name, words, args)
    (tmp_path / name).mkdir()
    (tmp_path / name / "run.toml").touch()
    results.run(name, words, args)
    begun, gone_on = (run.command.make_context("run", words).params for words in commands)
    assert (begun["resume"], begun["seed"], begun["minutes"]) == (False, 3, 2.5)
    assert (gone_on["resume"], gone_on["out"]) == (True, tmp_path / name)
