from __future__ import annotations

import pytest

from distill_core.config.discovery import collect_presets, discover
from distill_core.config.run_config import resolve
from distill_core.contracts.data import DataSpec
from podd_plugin.options import PosterOptions
from podd_plugin.poster_layout import poster_layout
from podd_plugin.quick import quick_presets


@pytest.mark.parametrize("preset", quick_presets(), ids=lambda preset: preset.name)
def test_a_quick_preset_is_offered_and_resolves(preset):
    plugins = discover()
    assert collect_presets(plugins)[preset.name] == preset
    config = resolve(preset.config, plugins)
    assert config.minutes is not None or config.steps <= 600
    assert preset.reported == ""


@pytest.mark.parametrize("classes", [2, 4, 37, 200])
@pytest.mark.parametrize("side", [16, 32, 96])
def test_own_pictures_need_no_arithmetic_of_the_user(classes, side):
    (preset,) = (each for each in quick_presets() if each.name == "own-cpu-minutes")
    assert preset.config["minutes"] <= 10
    algorithm = preset.config["options"]["algo"]
    spec = DataSpec("own", tuple(map(str, range(classes))), (3, side, side), ())
    draws = algorithm["total"] * algorithm["batch"]
    layout, *_ = poster_layout(PosterOptions(), spec, preset.config["ipc"], draws)
    assert classes <= len(layout.items) <= max(classes, 40)
    height, width = layout.canvas_hw
    assert height * width <= classes * side * side


def test_the_hour_of_cifar100_has_a_patch_for_each_class():
    (preset,) = (each for each in quick_presets() if each.name == "cifar100-cpu-hour")
    options = preset.config["options"]
    spec = DataSpec("cifar100", tuple(map(str, range(100))), (3, 32, 32), ())
    draws = options["algo"]["total"] * options["algo"]["batch"]
    layout, *_ = poster_layout(PosterOptions(**options["repr"]), spec, 0.4, draws)
    assert len(layout.items) == 100
