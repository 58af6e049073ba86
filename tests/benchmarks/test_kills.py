"""The harness of kills knows the program that it kills."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "faults"


def test_every_phase_is_marked_by_functions_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FAULTS))
    children = importlib.import_module("children")
    assert {label for _, _, label in children.SPOTS} | {"start"} == set(children.PHASES)
    del sys.modules["children"]
    for owner, name, _ in children.SPOTS:
        assert callable(getattr(owner, name)), f"{owner.__name__} has no {name}"
