"""Discovery: plugins of distill and their presets, asked one by one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from distill_core.config.discovery import (
    collect_presets,
    discover,
    preset_settings,
)
from distill_core.hookspecs import KINDS, Preset, hookimpl
from registry import DuplicateNameError, Plugins, Provider, UnknownNameError


def offering(*offered: Any) -> ModuleType:
    """A plugin that offers these presets, or raises what is an exception."""

    def distill_presets() -> list[Any]:
        for each in offered:
            if isinstance(each, Exception):
                raise each
        return list(offered)

    module = ModuleType("in_memory")
    module.distill_presets = hookimpl(distill_presets)  # type: ignore[attr-defined]
    return module


def found(**plugins: ModuleType) -> Plugins:
    return discover(extra=plugins.items(), only=[])


FAST = Preset("fast", "ends soon", {"steps": 1, "options": {"algo": {"window": 2}}})
SLOW = Preset("slow", "ends late")


def test_there_is_a_catalogue_for_every_kind() -> None:
    assert set(found().catalogues) == {kind.name for kind in KINDS}


def test_presets_of_all_plugins() -> None:
    plugins = found(one=offering(FAST), two=offering(SLOW))
    collected = collect_presets(plugins)
    assert collected == {"fast": FAST, "slow": SLOW}
    assert collected.entry("fast").provider == Provider("one")
    assert collected.entry("slow").provider == Provider("two")


def test_equal_names_are_refused_and_both_providers_named() -> None:
    plugins = found(one=offering(FAST), two=offering(FAST))
    with pytest.raises(DuplicateNameError) as caught:
        collect_presets(plugins)
    assert caught.value.what.startswith("two presets are named 'fast': one from one ")
    assert caught.value.providers == (str(Provider("one")), str(Provider("two")))


def test_a_plugin_whose_presets_fail_is_left_out() -> None:
    collected = collect_presets(found(bad=offering(ValueError("no table")), good=offering(FAST)))
    assert list(collected) == ["fast"]
    (failure,) = collected.failures
    assert failure.provider == Provider("bad")
    assert failure.reason == "presets: ValueError: no table"
    assert "raise each" in failure.traceback


def test_something_that_is_no_preset_is_a_failure_of_its_plugin() -> None:
    collected = collect_presets(found(bad=offering(FAST, {"steps": 1}), good=offering(SLOW)))
    assert list(collected) == ["slow"]
    assert "returned {'steps': 1}" in collected.failures[0].reason


def test_settings_are_a_copy() -> None:
    plugins = found(one=offering(FAST))
    settings = preset_settings("fast", plugins)
    assert settings == FAST.config
    settings["options"]["algo"]["window"] = 3
    assert preset_settings("fast", plugins)["options"]["algo"]["window"] == 2


def test_an_unknown_preset() -> None:
    with pytest.raises(UnknownNameError) as caught:
        preset_settings("fats", found(one=offering(FAST)))
    assert str(caught.value) == (
        "no preset named 'fats'. Did you mean 'fast'?\n"
        "Expected one of: fast.\n"
        "Next: `distill list presets` has all names, `distill plugins` shows what is installed."
    )
