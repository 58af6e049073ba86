"""`distill show`: a component with all its options, their types, defaults and bounds."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import Field

from distill_core.cli.show import rows
from distill_core.hookspecs import KINDS
from registry import Component, Options
from tests.distill_core.cli.fakes import distill, spiral, use, with_hooks


def test_everything_about_a_component(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "show", ("helix", spiral()))
    result = distill("show", "orderers", "spiral")
    assert result.exit_code == 0
    head, source, blank, *table, hint = result.stdout.splitlines()
    assert head == "orderer spiral: classes along a [spiral]"
    assert source == "plugin   helix ((not installed) 0), (in memory)"
    assert blank == ""
    assert hint == "Set one with -o orderer.turns=VALUE."
    cells = [[cell.strip() for cell in line.split("\t")] for line in table]
    assert cells == [
        ["option", "type", "default", "bounds", "description"],
        ["orderer.turns", "int", "3", ">= 1, <= 9", "turns of the spiral"],
        ["orderer.pitch", "float or none", "none", "> 0", "distance of turns, pixels"],
        ["orderer.grid", "ROWSxCOLS", "6x16", "", "rows and columns"],
        ["orderer.start", "centre|corner", "centre", "", "where it begins"],
        ["orderer.file", "path", "required", "", "a file [with brackets]"],
    ]


def test_a_component_without_options(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "show", ("helix", spiral()))
    assert distill("show", "algo", "guess").stdout.splitlines() == [
        "algorithm guess: guesses",
        "plugin   helix ((not installed) 0), (in memory)",
        "It has no options.",
    ]


def test_an_unknown_component(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "show", ("helix", spiral()))
    result = distill("show", "orderer", "spirl")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[:2] == [
        "no orderer named 'spirl'.",
        "Expected one of: spiral. Did you mean 'spiral'?",
    ]


def test_options_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def distill_orderers() -> list[Component]:
        return [Component("ghost", "no:where", "no_such_package:Options", "is not there")]

    use(monkeypatch, "show", ("ghosts", with_hooks(distill_orderers)))
    result = distill("show", "orderer", "ghost")
    assert result.exit_code == 2
    assert "component 'ghost' points to 'no_such_package:Options'" in result.stderr
    assert len(result.stderr.splitlines()) == 3


class Inner(Options):
    """A table in a table."""

    deep: int = 1


class Every(Options):
    """Forms of options beyond the plain ones."""

    pair: tuple[float, float] = (0.9, 0.999)
    words: list[str] = Field(default_factory=lambda: ["a", "b"], min_length=1, max_length=3)
    mixed: Literal["auto"] | float = "auto"
    only: Literal[7] = 7
    flag: bool = False
    table: Inner = Inner()
    anything: Any = None
    code: str = Field("ab", pattern="^[a-z]+$", min_length=2)
    tiny: float = Field(1e-7, lt=1)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("pair", ("[float, float]", "[0.9, 0.999]", "")),
        ("words", ("list of text", "[a, b]", "at least 1 items, at most 3 items")),
        ("mixed", ("auto or float", "auto", "")),
        ("only", ("7", "7", "")),
        ("flag", ("true|false", "false", "")),
        ("table", ("table", "{'deep': 1}", "")),
        ("anything", ("any", "none", "")),
        ("code", ("text", "ab", "at least 2 characters, like ^[a-z]+$")),
        ("tiny", ("float", "1e-07", "< 1")),
    ],
)
def test_types_defaults_and_bounds_in_words(name: str, cells: tuple[str, ...]) -> None:
    found = {row[0]: row[1:4] for row in rows(Every, KINDS[3])}
    assert found[f"algo.{name}"] == cells


def test_the_source_in_the_literature_is_shown() -> None:
    result = distill("show", "labeler", "poddl")
    assert "source   Shul et al. 2024 (arXiv:2403.12040), section 4.3." in result.stdout
    assert json.loads(distill("show", "labeler", "poddl", "--json").stdout)["source"].startswith(
        "Shul et al. 2024"
    )
