"""`distill presets`: a table of configurations, and each as a file."""

from __future__ import annotations

import tomllib

import pytest

from distill_core.hookspecs import Preset
from tests.distill_core.cli.fakes import distill, spiral, use, with_hooks


def test_a_table_with_reported_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "presets", ("helix", spiral()))
    result = distill("presets")
    assert result.exit_code == 0
    assert [[cell.strip() for cell in line.split("\t")] for line in result.stdout.splitlines()] == [
        ["preset", "plugin", "summary", "reported"],
        ["quick", "helix", "three steps", "12.3 % (a paper, table 4)"],
    ]


def test_one_preset_is_a_configuration_file(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "presets", ("helix", spiral()))
    text = distill("presets", "quick").stdout
    assert text.startswith("# three steps\n# reported: 12.3 % (a paper, table 4)\n")
    assert tomllib.loads(text) == {
        "repr": "poster",
        "steps": 3,
        "options": {"orderer": {"grid": "2x5"}},
    }


def test_text_of_several_lines_stays_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    def distill_presets() -> list[Preset]:
        return [Preset("long", "one\ntwo", {"steps": 1})]

    use(monkeypatch, "presets", ("helix", with_hooks(distill_presets)))
    text = distill("presets", "long").stdout
    assert text.startswith("# one\n# two\n")
    assert "reported" not in text
    assert tomllib.loads(text) == {"steps": 1}


def test_an_unknown_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "presets", ("helix", spiral()))
    result = distill("presets", "qick")
    assert result.exit_code == 2
    assert result.stderr == (
        "no preset named 'qick'. Did you mean 'quick'?\n"
        "Expected one of: quick.\n"
        "Next: `distill list presets` has all names, `distill plugins` shows what is installed.\n"
    )


def test_presets_that_fail_hurt_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def distill_presets() -> list[Preset]:
        raise RuntimeError("no table")

    use(monkeypatch, "presets", ("paper", with_hooks(distill_presets)), ("helix", spiral()))
    result = distill("presets")
    assert result.exit_code == 0
    assert "quick" in result.stdout
    assert result.stderr == (
        "The presets of paper ((not installed) 0) are missing; `distill plugins` says why.\n"
    )
    assert "(failed to load: paper)" in distill("presets", "nothing").stderr
