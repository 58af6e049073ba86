"""Some combinations, each in its pair once; `benchmarks/faults/combinations.py` tries all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FAULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "faults"
FILES = ("combinations", "combination", "whole_run", "byte_budget")


@pytest.fixture(scope="module")
def combinations() -> Iterator[ModuleType]:
    """benchmarks/faults/combinations.py, which is in no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAULTS))
        import combinations as module

        yield module
    for name in FILES:
        sys.modules.pop(name, None)


def of_kind(combinations: ModuleType, kind: str) -> list[Any]:
    return [case for case in combinations.cases() if case.name.startswith(f"{kind}: ")]


@pytest.mark.parametrize("number", range(11))
def test_a_type_goes_from_the_run_to_its_exports(
    combinations: ModuleType, number: int, tmp_path: Path
) -> None:
    """Case by case another representation and another of the types: all of these, in turn."""
    cases = of_kind(combinations, "types")
    case = cases[number * (11 + 1) % len(cases)]
    assert combinations.outcome(case, tmp_path / "files") in {("passed", ""), ("refused", "")}


def test_all_types_and_most_representations_are_among_these(combinations: ModuleType) -> None:
    cases = of_kind(combinations, "types")
    names = [cases[k * 12 % len(cases)].name for k in range(11)]
    assert len({name.rpartition(", ")[2] for name in names}) == 11
    assert len({name.rpartition(", ")[0] for name in names}) == 11


@settings(max_examples=8)
@given(data=st.data())
def test_a_budget_in_bytes_is_filled_or_refused(
    combinations: ModuleType, data: st.DataObject
) -> None:
    """Against counting up, for budgets of any size."""
    parts = sys.modules["combination"]
    name = data.draw(st.sampled_from(sorted(parts.representations())))
    images, labels, labeler = data.draw(st.sampled_from(parts.BUDGETS))
    limit = data.draw(st.integers(1, 12_000))
    case = parts.budgeted(name, images, labels, labeler, limit)
    assert combinations.outcome(case, Path("/nowhere"))[1] == ""


def test_a_result_that_is_not_that_of_its_run_is_found(
    combinations: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script can fail: here every result is loaded a little brighter."""
    whole_run = sys.modules["whole_run"]
    load = whole_run.load

    def brighter(path: Path) -> Any:
        found = load(path)
        found.images.add_(0.01)
        return found

    monkeypatch.setattr(whole_run, "load", brighter)
    word, seen = combinations.outcome(of_kind(combinations, "types")[0], tmp_path / "files")
    assert word == "FAILED"
    assert "are not those of the run: up to 1.0" in seen
