"""Presets that fill a budget with more: whole configurations that fit it."""

from __future__ import annotations

from math import prod

import pytest

from distill_core.builtin.presets import HOUR, decoder_presets, four_bit_presets
from distill_core.config.run_config import resolve
from distill_core.contracts.components import Representation
from distill_core.contracts.data import DataSpec
from distill_core.run.plan import Plan
from distill_core.run.sizing import ipc_of
from tests.distill_core.small_run import installed

PRESETS = {preset.name: preset for preset in decoder_presets()}
CIFAR10 = DataSpec("cifar10", tuple("0123456789"), (3, 32, 32), ())


def representation(name: str) -> Representation:
    config = resolve(PRESETS[name].config, installed())
    component = installed()["representation"][config.repr]
    made = component.resolve_factory()(
        component.resolve_options()(**PRESETS[name].config["options"]["repr"]),
        spec=CIFAR10,
        ipc=config.ipc,
    )
    assert isinstance(made, Representation)
    return made


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_its_budget_and_nearly_uses_it(name: str) -> None:
    stored = sum(tensor.numel() for tensor in representation(name).state_dict().values())
    assert 0.95 * 30720 < stored <= 30720


def test_each_decoder_has_an_hour() -> None:
    assert {f"cifar10-cpu-hour-{name}" for name in HOUR} < set(PRESETS)
    assert {PRESETS[f"cifar10-cpu-hour-{name}"].config["repr"] for name in HOUR} == set(HOUR)
    assert all(not preset.reported for name, preset in PRESETS.items() if "hour" in name)


def test_the_bases_are_trained_as_published() -> None:
    made = representation("basis-cifar10")
    assert made.layout.num_canvases == 10 * 115
    algo = PRESETS["basis-cifar10"].config["options"]["algo"]
    component = installed()["algorithm"]["bptt"]
    options = component.resolve_options()(**algo).model_dump()
    published = {"steps": 150, "inner_lr": 0.01, "momentum": 0.9, "batch": 10 * 32}
    published |= {"pixel_lr": 0.1, "outer_momentum": 0.5, "clip_norm": 2.0, "augment": "none"}
    assert published.items() <= options.items()


@pytest.mark.parametrize(("classes", "images"), [(10, 31), (100, 7)])
def test_four_bits_hold_many_images_of_each_class_in_the_bytes_of_one(
    classes: int, images: int
) -> None:
    presets = {preset.name: preset for preset in four_bit_presets()}
    config = resolve(presets[f"cifar{classes}-cpu-hour-uint4"].config, installed())
    spec = DataSpec("pictures", tuple(map(str, range(classes))), (3, 32, 32), ())
    assert config.budget_bytes == classes * prod(spec.image_shape) * 4
    plan = Plan.of(config, installed())
    made = plan.representation(spec, ipc_of(plan, spec))
    assert made.layout.num_canvases == classes * images
