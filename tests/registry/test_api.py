"""Versions of the plugin API: what fits is loaded, what does not is a failure that explains."""

from __future__ import annotations

from typing import Any

import pytest

from registry import load_plugins
from tests.registry import coffee


def load(*extra: tuple[str, Any], api: str | None) -> Any:
    return load_plugins(
        coffee.GROUP, coffee.hookspecs(), coffee.KINDS, api=api, extra=extra, only=[]
    )


def espresso(version: object) -> Any:
    plugin = coffee.plugin(coffee.espresso)
    if version is not None:
        plugin.COFFEE_API = version
    return plugin


@pytest.mark.parametrize("version", [None, "2.0", "2.3"])
def test_what_fits_is_loaded(version: str | None) -> None:
    plugins = load(("one", espresso(version)), api="2.3")
    assert plugins["brew"].names() == ["espresso"]
    assert plugins.failures == []


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("1.9", "install a newer version"),
        ("3.0", "upgrade the program"),
        ("2.4", "upgrade the program"),
        ("2.10", "upgrade the program"),
    ],
)
def test_what_does_not_fit_is_left_out_alone(version: str, says: str) -> None:
    other = coffee.plugin(coffee.filtered)
    plugins = load(("one", espresso(version)), ("two", other), api="2.3")
    assert plugins["brew"].names() == ["filtered"]
    (failure,) = plugins.failures
    assert failure.provider.entry_point == "one"
    assert f"built for version {version} of the plugin API, but this is version 2.3" in (
        failure.reason
    )
    assert "Expected version 2.0 to 2.3." in failure.reason
    assert says in failure.reason


@pytest.mark.parametrize("version", ["2", "two", 2.0, "2.0.1"])
def test_nonsense_is_no_version(version: object) -> None:
    (failure,) = load(("one", espresso(version)), api="2.3").failures
    assert "is not a version" in failure.reason


def test_nothing_is_compared_without_a_version() -> None:
    assert load(("one", espresso("9.9")), api=None).failures == []


def test_the_first_minor_is_no_range() -> None:
    (failure,) = load(("one", espresso("0.4")), api="1.0").failures
    assert "Expected version 1.0.\n" in failure.reason


def test_what_a_plugin_states_is_kept_with_it() -> None:
    plugins = load(("one", espresso("2.1")), ("two", coffee.plugin(coffee.filtered)), api="2.3")
    assert [provider.api for provider in plugins.providers] == ["2.1", "(not stated)"]
    assert plugins["brew"].entry("espresso").provider.api == "2.1"
