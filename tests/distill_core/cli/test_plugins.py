"""`distill plugins`: what was discovered, and what is broken and why."""

from __future__ import annotations

import pytest

from distill_core.hookspecs import Preset
from tests.distill_core.cli.fakes import broken, distill, spiral, use, with_hooks


@pytest.fixture(autouse=True)
def _all_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISTILL_LOAD_PLUGINS", raising=False)


def test_what_a_plugin_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "plugins", ("helix", spiral()), ("idle", with_hooks()))
    result = distill("plugins")
    assert result.exit_code == 0
    unknown = ["(not installed) 0", "(in memory)", "(not stated)"]
    assert [[cell.strip() for cell in line.split("\t")] for line in result.stdout.splitlines()] == [
        ["plugin", "version", "module", "api", "offers"],
        ["helix", *unknown, "orderer: spiral; algorithm: guess; presets: 1"],
        ["idle", *unknown, "nothing"],
    ]


def test_a_broken_plugin_is_reported_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "plugins", ("helix", spiral()), ("lost", broken()))
    result = distill("plugins")
    assert result.exit_code == 0
    assert "helix" in result.stdout
    assert (
        "\nlost ((not installed) 0) is broken:\n  RuntimeError: no compass\n"
        "\n`distill plugins --traceback` shows where it happened.\n"
    ) in result.stdout
    assert "Traceback" not in result.stdout


def test_its_traceback_is_shown_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "plugins", ("lost", broken()))
    text = distill("plugins", "--traceback").stdout
    assert "  Traceback (most recent call last):" in text
    assert 'raise RuntimeError("no compass")' in text
    assert "`distill plugins --traceback`" not in text


def test_presets_that_fail_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def distill_presets() -> list[Preset]:
        raise KeyError("table 4")

    use(monkeypatch, "plugins", ("paper", with_hooks(distill_presets)))
    text = distill("plugins").stdout
    assert "paper ((not installed) 0) is broken:\n  presets: KeyError: 'table 4'" in text


def test_a_restriction_is_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "plugins")
    assert "DISTILL_LOAD_PLUGINS" not in distill("plugins").stdout
    monkeypatch.setenv("DISTILL_LOAD_PLUGINS", "podd")
    assert "Only those named in DISTILL_LOAD_PLUGINS=podd were loaded." in distill("plugins").stdout


def test_an_unknown_plugin_in_the_restriction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_LOAD_PLUGINS", "no_such_plugin")
    result = distill("plugins")
    assert result.exit_code == 2
    assert result.stderr.startswith("no plugin named 'no_such_plugin'.\nExpected one of: ")
    assert result.stderr.endswith("Next: correct DISTILL_LOAD_PLUGINS or install the plugin.\n")
