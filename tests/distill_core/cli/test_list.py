"""`distill list`: every component with its provider, from plain lines to a drawn table."""

from __future__ import annotations

import json

import click
import pytest

from distill_core.cli import tables
from distill_core.cli.kinds import find_kind
from distill_core.hookspecs import KINDS
from registry import UnknownNameError
from tests.distill_core.cli.fakes import broken, distill, spiral, use


def test_plain_lines_have_padded_columns_between_tabs(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "list", ("helix", spiral()))
    result = distill("list")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "kind     \tname  \tplugin\tversion          \tsummary",
        "orderer  \tspiral\thelix \t(not installed) 0\tclasses along a [spiral]",
        "algorithm\tguess \thelix \t(not installed) 0\tguesses",
    ]
    assert result.stderr == ""


@pytest.mark.parametrize("kind", ["orderer", "orderers", "ORDERER"])
def test_one_kind(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    use(monkeypatch, "list", ("helix", spiral()))
    lines = distill("list", kind).stdout.splitlines()
    assert [line.split("\t")[1].strip() for line in lines] == ["name", "spiral"]


def test_a_kind_without_components(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "list", ("helix", spiral()))
    assert distill("list", "dataset").stdout == "kind\tname\tplugin\tversion\tsummary\n"


def test_plugins_that_failed_are_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "list", ("helix", spiral()), ("lost", broken()))
    result = distill("list", "orderer")
    assert result.exit_code == 0
    assert "spiral" in result.stdout
    assert result.stderr == "1 not loaded: lost. `distill plugins` says why.\n"


def test_an_unknown_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "list")
    result = distill("list", "ordrer")
    assert result.exit_code == 2
    assert result.stderr == (
        "no kind of component named 'ordrer'. Did you mean 'orderer'?\n"
        "Expected one of: algo, algorithm, backbone, dataset, labeler, orderer, repr, "
        "representation.\n"
        "Next: `distill list` shows all kinds.\n"
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_by_name_and_prefix_in_singular_and_plural(kind: object) -> None:
    name, option = kind.name, kind.option  # type: ignore[attr-defined]
    for text in (name, f"{name}s", option, f"{option}s", f" {name.upper()} "):
        assert find_kind(text) is kind


def test_an_empty_kind_is_unknown() -> None:
    with pytest.raises(UnknownNameError):
        find_kind("")


def test_a_terminal_gets_a_drawn_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for name, value in {"TERM": "xterm", "COLUMNS": "60", "LINES": "25"}.items():
        monkeypatch.setenv(name, value)
    long = "a summary that is far too long for one line of a terminal, with [brackets]"
    tables.print_table(("name", "summary"), [("spiral", long)], title="Components")
    text = click.unstyle(capsys.readouterr().out)
    assert "Components" in text
    assert "\t" not in text
    assert all(len(line) <= 60 for line in text.splitlines())
    assert "[brackets]" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("list",), {"kind", "name", "plugin", "version", "summary"}),
        (("presets",), {"preset", "plugin", "summary", "reported"}),
        (("presets", "quick-digits"), {"name", "summary", "config", "reported", "benched"}),
        (
            ("show", "orderer", "poco"),
            {"kind", "name", "summary", "provider", "source", "options"},
        ),
        (("plugins",), {"plugins", "failures"}),
    ],
)
def test_json_has_the_documented_shape(arguments: tuple[str, ...], keys: set[str]) -> None:
    found = json.loads(distill(*arguments, "--json").stdout)
    records = found if isinstance(found, list) else [found]
    assert records
    assert all(set(record) == keys for record in records)


def test_a_filter_searches_models_too() -> None:
    lines = distill("list", "backbones", "--filter", "resnet1?").stdout.splitlines()[1:]
    names = [line.split("\t")[1].strip() for line in lines]
    assert names == ["timm:resnet18"]
    assert "timm:resnet18" in distill("list", "--filter", "timm:*18").stdout
    assert "\tconvnet\t" in distill("list", "--filter", "conv*t").stdout
    nothing = distill("list", "orderer", "--filter", "resnet*")
    assert nothing.exit_code == 0
    assert nothing.stderr == "Nothing is called resnet*; a * stands for any letters.\n"


def test_presets_and_plugins_are_listed_by_the_same_command() -> None:
    filtered = json.loads(distill("list", "presets", "--filter", "quick-*", "--json").stdout)
    assert [each["preset"] for each in filtered] == [
        each["preset"]
        for each in json.loads(distill("presets", "--json").stdout)
        if each["preset"].startswith("quick-")
    ]
    plugins = json.loads(distill("list", "plugins", "--json").stdout)
    assert {"builtin", "podd"} <= {each["plugin"] for each in plugins}
