"""`distill show`: a component with all its options, their types, defaults and bounds."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import pytest
from pydantic import Field

from distill_core.cli.show import WIDTH, stacked
from distill_core.config.describe import HEADERS, rows
from distill_core.config.discovery import discover
from distill_core.config.run_config import RunConfig
from distill_core.config.sections import SECTIONS
from distill_core.config.settings import MACHINE
from distill_core.hookspecs import KINDS
from registry import Component, Options
from tests.distill_core.cli.fakes import SpiralOptions, distill, spiral, use, with_hooks


def test_everything_about_a_component(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "show", ("helix", spiral()))
    result = distill("show", "orderers", "spiral")
    assert result.exit_code == 0
    head, source, blank, *table, hint = result.stdout.splitlines()
    assert head == "orderer spiral: classes along a [spiral]"
    assert source == "plugin   helix ((not installed) 0), (in memory)"
    assert blank == ""
    assert hint == "Set one with -o orderer.turns=VALUE."
    assert table == [
        "orderer.turns  int, default: 3, >= 1, <= 9, unit: turns",
        "    turns of the spiral. Source: Bees, eq. 2",
        "orderer.pitch  float or none, default: none, > 0, unit: pixels",
        "    distance of turns",
        "orderer.grid  ROWSxCOLS, default: 6x16",
        "    rows and columns",
        "orderer.start  centre | corner, default: centre",
        "    where it begins",
        "orderer.file  path, required",
        "    a file [with brackets]",
    ]


def test_a_component_without_options(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "show", ("helix", spiral()))
    assert distill("show", "algo", "guess").stdout.splitlines() == [
        "algorithm guess: guesses",
        "plugin   helix ((not installed) 0), (in memory)",
        "It has no options.",
    ]


@pytest.mark.parametrize(
    ("word", "way"),
    [
        ("poster", "Next: `distill show repr poster`."),
        ("quick-digits", "Next: `distill show preset quick-digits`."),
        ("postr", "Next: `distill list` shows all kinds."),
    ],
)
def test_a_name_without_its_kind_says_how_to_show_it(word: str, way: str) -> None:
    result = distill("show", word)
    assert result.exit_code == 2
    first, _, last = result.stderr.splitlines()
    assert first == f"no kind of component named '{word}'."
    assert last == way


def test_a_mistyped_section_is_found_among_kinds() -> None:
    result = distill("show", "evaluat")
    assert "Did you mean 'evaluate'?" in result.stderr.splitlines()[0]


def test_an_unknown_component(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "show", ("helix", spiral()))
    result = distill("show", "orderer", "spirl")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[:2] == [
        "no orderer named 'spirl'. Did you mean 'spiral'?",
        "Expected one of: spiral.",
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
    found = {row[0]: row[1:4] for row in rows(Every, KINDS[3].option)}
    assert found[f"algo.{name}"] == cells


def test_units_and_sources_of_options() -> None:
    record = json.loads(distill("show", "algo", "ratbptt", "--json").stdout)
    found = {option["option"]: (option["unit"], option["source"]) for option in record["options"]}
    assert found["algo.batch"] == ("images", "PoDD, section 5.1")
    assert found["algo.balanced"] == ("", "")


def test_no_line_for_a_pipe_is_longer_than_a_terminal_and_no_word_is_cut() -> None:
    printed = distill("show", "algo", "ratbptt", "--all").stdout
    assert max(map(len, printed.splitlines())) <= WIDTH
    record = json.loads(distill("show", "algo", "ratbptt", "--json").stdout)
    for option in record["options"]:
        assert option["description"] in " ".join(printed.split())
    assert all(option.keys() == set(HEADERS) for option in record["options"])


def named(printed: str) -> list[str]:
    """Return the options in printed tables."""
    return re.findall(r"^(\w+\.\w+)  ", printed, flags=re.MULTILINE)


def test_options_that_few_set_are_folded_and_counted() -> None:
    few = distill("show", "algo", "ratbptt").stdout
    whole = distill("show", "algo", "ratbptt", "--all").stdout
    hidden = set(named(whole)) - set(named(few))
    assert {"algo.clip_decay", "algo.momentum"} <= hidden
    assert "algo.window" in named(few)
    assert few.endswith(
        f"\n`distill show algo ratbptt --all` also shows {len(hidden)} options that are rarely "
        "needed.\n"
    )
    assert "rarely needed" not in whole
    record = json.loads(distill("show", "algo", "ratbptt", "--json").stdout)
    assert [each["option"] for each in record["options"]] == named(whole)


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_every_component_shows_an_option_if_it_has_one(kind: str) -> None:
    catalogue = discover(only=["builtin", "podd"])[kind]
    for name in catalogue.names():
        few = named(distill("show", kind, name).stdout)
        assert bool(few) == bool(catalogue.options(name).model_fields), name


def test_settings_of_the_machine_are_apart() -> None:
    settings, machine = distill("show", "run").stdout.split("This machine: ")
    assert "run.steps" in named(settings)
    assert named(machine) == [f"run.{name}" for name in MACHINE]
    assert not set(named(settings)) & set(named(machine))


def test_presets_and_plugins_are_shown_as_components_are() -> None:
    assert (
        distill("show", "preset", "quick-digits").stdout
        == distill("presets", "quick-digits").stdout
    )
    assert distill("show", "plugins", "podd").stdout.startswith("plugin   podd\n")
    assert json.loads(distill("show", "plugin", "podd", "--json").stdout)["plugin"] == "podd"
    unknown = distill("show", "plugin", "pod")
    assert unknown.exit_code == 2
    assert "Did you mean 'podd'?" in unknown.stderr
    assert "`distill list presets` has the names" in distill("show", "preset").stderr


def test_a_plugin_that_is_broken_is_shown_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def distill_orderers() -> list[Component]:
        raise RuntimeError("out of tea")

    use(monkeypatch, "others", ("broken", with_hooks(distill_orderers)))
    assert "RuntimeError: out of tea" in distill("show", "plugin", "broken").stdout


def test_a_terminal_gets_few_columns() -> None:
    headers, cells = stacked(rows(SpiralOptions, "orderer"))
    assert headers == ("option", "value", "description")
    assert cells[0] == (
        "orderer.turns",
        "int\ndefault: 3\n>= 1, <= 9\nunit: turns",
        "turns of the spiral\nSource: Bees, eq. 2",
    )
    assert cells[3] == ("orderer.start", "centre | corner\ndefault: centre", "where it begins")
    assert cells[-1] == ("orderer.file", "path\nrequired", "a file [with brackets]")


# Numbers that count nothing.
WITHOUT_UNIT = {"shapes.seed", "basis.downsample", "images.downsample", "poster.downsample"}


def test_every_whole_number_of_ours_has_a_unit() -> None:
    plugins = discover(only=["builtin", "podd"])
    found = {
        f"{name}.{row[0].partition('.')[2]}": dict(zip(HEADERS, row, strict=True))
        for kind in KINDS
        for name in plugins[kind.name].names()
        for row in rows(plugins[kind.name][name].resolve_options(), kind.option)
    }
    whole = {name for name, cells in found.items() if "int" in cells["type"].split(" or ")}
    assert len(whole) > 40
    assert {name for name in whole if not found[name]["unit"]} == WITHOUT_UNIT


@pytest.mark.parametrize("model", [RunConfig, *SECTIONS.values()])
def test_every_whole_number_of_a_run_has_a_unit(model: type[Options]) -> None:
    for name, what, _, _, unit, *_ in rows(model, "run"):
        assert unit or "int" not in what.split(" or ") or name.endswith(".seed")


@pytest.mark.parametrize("name", ["run", "data", "engine", "evaluate"])
def test_settings_of_the_core_are_shown(name: str) -> None:
    result = distill("show", name, "--all")
    assert result.exit_code == 0, result.output
    record = json.loads(distill("show", name, "--json").stdout)
    listed = {option["option"] for option in record["options"]}
    assert set(named(result.stdout)) == listed
    model = {"run": RunConfig, **SECTIONS}[name]
    taken = {f"run.{each}" for each in ("options", *SECTIONS, *(kind.option for kind in KINDS))}
    assert listed == {f"{name}.{field}" for field in model.model_fields} - taken
    assert record["name"] == name


def test_a_kind_without_a_name_is_refused() -> None:
    result = distill("show", "orderer")
    assert result.exit_code == 2
    assert "`distill list orderer` has the names" in result.stderr


def test_the_source_in_the_literature_is_shown() -> None:
    result = distill("show", "labeler", "poddl")
    assert "source   Shul et al. 2024 (arXiv:2403.12040), section 4.3." in result.stdout
    assert json.loads(distill("show", "labeler", "poddl", "--json").stdout)["source"].startswith(
        "Shul et al. 2024"
    )


def test_an_error_does_not_steer_the_terminal() -> None:
    result = distill("show", "plugin", "caf\u00e9\x1b[2J")
    assert result.exit_code == 2
    assert "no plugin named 'caf\u00e9\\x1b[2J'" in result.stderr
