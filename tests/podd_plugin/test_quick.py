from __future__ import annotations

import pytest

from distill_core.config.discovery import collect_presets, discover
from distill_core.config.run_config import resolve
from podd_plugin.quick import quick_presets


@pytest.mark.parametrize("preset", quick_presets(), ids=lambda preset: preset.name)
def test_a_quick_preset_is_offered_and_resolves(preset):
    plugins = discover()
    assert collect_presets(plugins)[preset.name] == preset
    config = resolve(preset.config, plugins)
    assert config.minutes is not None or config.steps <= 600
    assert preset.reported == ""
