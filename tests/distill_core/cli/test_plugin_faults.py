"""A run with a plugin that does not behave: named with its provider, before any work is done."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from distill_core.config import discovery
from distill_core.hookspecs import hookimpl
from registry import Component, InputError
from tests.distill_core.cli.fakes import distill


class Faulty:
    """An orderer with a fault."""

    def __init__(self, fault: Any) -> None:
        self.fault = fault

    def order(self, real: Any, grid_shape: Any, *, generator: Any) -> Any:
        if isinstance(self.fault, Exception):
            raise self.fault
        return self.fault


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run with an orderer "faulty" whose factory is given; nothing may be written."""
    monkeypatch.delenv("DISTILL_LOAD_PLUGINS", raising=False)
    installed = discovery.discover

    def go(factory: Any) -> Any:
        module = ModuleType("mine")
        offer = [Component("faulty", factory, summary="does not behave")]
        module.distill_orderers = hookimpl(  # type: ignore[attr-defined]
            lambda: offer, specname="distill_orderers"
        )
        monkeypatch.setattr(discovery, "discover", lambda: installed(extra=[("mine", module)]))
        names = "--repr images --labeler onehot --orderer faulty --algo ratbptt --device cpu"
        result = distill("run", *names.split(), "--out", str(tmp_path / "run"))
        assert not (tmp_path / "run").exists()
        assert "Traceback" not in result.stderr
        return result

    return go


def test_an_orderer_that_raises(run: Any) -> None:
    result = run(lambda options: Faulty(KeyError("north")))
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "orderer 'faulty' of plugin mine ((not installed) 0) raised KeyError: 'north'.",
        "Expected no error from a component; `distill_core.testing` checks the contract.",
        "Next: use --traceback to see where it happened, and tell the author of the plugin.",
    ]


def test_an_orderer_that_refuses(run: Any) -> None:
    refusal = InputError("no north.", expected="a compass.", next="buy one.")
    result = run(lambda options: Faulty(refusal))
    assert result.exit_code == 2
    assert result.stderr == "no north.\nExpected a compass.\nNext: buy one.\n"


def test_an_orderer_that_is_none(run: Any) -> None:
    result = run(lambda options: "north")
    assert result.exit_code == 2
    assert result.stderr.startswith("orderer 'faulty' of mine ((not installed) 0) made a str.\n")


def test_an_orderer_with_a_wrong_grid(run: Any) -> None:
    result = run(lambda options: Faulty(torch.zeros(2, 5, dtype=torch.int64)))
    assert result.exit_code == 2
    assert "not a permutation of the classes" in result.stderr


def test_a_factory_that_raises(run: Any) -> None:
    result = run(lambda: None)
    assert result.exit_code == 1
    assert result.stderr.startswith("orderer 'faulty' of plugin mine ((not installed) 0) raised")
