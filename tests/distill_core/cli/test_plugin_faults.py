"""A run with a plugin that does not behave: named with its provider, before any work is done."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from distill_core.cli.errors import explain
from distill_core.config import discovery
from distill_core.contracts.recipes import Recipe
from distill_core.hookspecs import hookimpl
from distill_core.run.checkpoint import has_checkpoint
from registry import Component, InputError
from registry.blame import _modules
from tests.distill_core.cli.fakes import distill
from tests.distill_core.cli.small_args import arguments


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


SOURCE = """
from distill_core.builtin.algorithms.unrolled.ratbptt import RatBptt
from distill_core.plugin import Component, hookimpl

class Own(BaseException):
    pass

class Mine(RatBptt):
    def outer_step(self, synthetic, *, step, rng):
        if step == 1:
            {fault}
        return super().outer_step(synthetic, step=step, rng=rng)

@hookimpl
def distill_algorithms():
    options = "distill_core.builtin.algorithms.unrolled.options:RatBpttOptions"
    return [Component("mine", "own_plugin:Mine", options)]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an installed plugin "own_plugin" of the distribution own-package 2.5."""
    monkeypatch.delenv("DISTILL_LOAD_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_plugin", raising=False)
    info = tmp_path / "own_package-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-package\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text("[distill]\nown = own_plugin\n")
    _modules.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise Own", "Own"),
    ],
)
def test_an_outer_step_that_fails_is_named_with_its_place(
    site: Path, fault: str, raised: str
) -> None:
    file, run = site / "own_plugin.py", site / "run"
    file.write_text(SOURCE.format(fault=fault))
    more = ("--algo", "mine", "-o", "engine.path=autograd", "-o", "run.checkpoint_minutes=60")
    result = distill(*arguments(run, *more))
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"plugin own (own-package 2.5) raised {raised} (in {file}, line 11, in Mine.outer_step).",
        "Expected no error from a component; `distill_core.testing` checks the contract.",
        "Next: use --traceback to see where it happened, and tell the author of the plugin. The "
        f"state is saved at outer step 1; go on with `distill run --resume --out {run}`.",
    ]
    assert has_checkpoint(run)


def test_what_a_plugin_prints_does_not_break_records(site: Path) -> None:
    (site / "own_plugin.py").write_text("print('hello')")
    result = distill("list", "orderer", "--json")
    assert "hello" in result.stderr
    assert json.loads(result.stdout)


@pytest.mark.parametrize(
    ("grid", "notes", "message"),
    [
        ([[0, 1]], {}, "returns list"),
        (None, {}, "returns NoneType"),
        (torch.arange(10.0).view(2, 5), {}, "returns torch.float32"),
        (torch.ones(2, 5, dtype=torch.bool), {}, "returns torch.bool"),
        (torch.arange(10).view(2, 5).to_sparse(), {}, "returns a tensor on cpu with layout torch"),
        (torch.arange(10, device="meta").view(2, 5), {}, "returns a tensor on meta"),
        (torch.arange(10), {}, "returned a grid of shape (10,)"),
        (torch.arange(10).view(2, 5) // 2, {}, "returned a grid that is not a permutation"),
        (torch.arange(10).view(2, 5), "no table", "has notes that are str"),
    ],
)
def test_an_orderer_that_gives_something_else(
    run: Any, grid: Any, notes: Any, message: str
) -> None:
    def make(options: Any) -> Faulty:
        made = Faulty(grid)
        made.notes = notes  # type: ignore[attr-defined]
        return made

    result = run(make)
    assert result.exit_code == 2
    assert result.stderr.startswith("orderer 'faulty' of mine ((not installed) 0) " + message)


def test_what_pydantic_finds_is_told_with_its_field() -> None:
    """The first line of its text says only how much was found."""
    with pytest.raises(ValidationError) as caught:
        Recipe(optimizer="sdg")  # type: ignore[arg-type]
    assert "ValidationError: optimizer: Input should be 'adam' or 'sgd'" in str(
        explain(caught.value)
    )
