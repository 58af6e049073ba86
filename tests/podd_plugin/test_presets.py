from __future__ import annotations

import pytest

from distill_core.builtin.algorithms.unrolled.ratbptt import RatBpttOptions
from distill_core.builtin.backbones.convnet import ConvNetOptions
from distill_core.config.run_config import RunConfig
from distill_core.contracts.data import DataSpec
from podd_plugin.poddl import PoddlOptions
from podd_plugin.poster import Poster, PosterOptions
from podd_plugin.presets import presets
from registry.options import check_options

PRESETS = {preset.name: preset for preset in presets()}
DATA = {
    "cifar10": (10, 32),
    "cifar100": (100, 32),
    "cub200": (200, 32),
    "tiny_imagenet": (200, 64),
}


def test_four_datasets_at_eight_budgets():
    assert len(PRESETS) == 32
    ipcs = {preset.config["ipc"] for preset in PRESETS.values()}
    assert ipcs == {0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0}
    assert {preset.config["dataset"] for preset in PRESETS.values()} == set(DATA)
    assert {"podd-cifar10-0.9", "podd-tiny-imagenet-0.3", "podd-cifar100-1.0"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_the_options_of_its_components(name):
    settings = PRESETS[name].config
    check_options(RunConfig, {**settings, "options": {}}, where="run")
    for kind, model in (
        ("repr", PosterOptions),
        ("labeler", PoddlOptions),
        ("algo", RatBpttOptions),
        ("backbone", ConvNetOptions),
    ):
        check_options(model, settings["options"][kind], where=kind)


@pytest.mark.parametrize("name", PRESETS)
def test_every_poster_fits_its_budget_and_has_the_published_patches(name):
    settings = PRESETS[name].config
    config = check_options(RunConfig, {**settings, "options": {}}, where="run")
    options = PosterOptions(**settings["options"]["repr"])
    num_classes, side = DATA[config.dataset]
    spec = DataSpec(config.dataset, tuple(map(str, range(num_classes))), (3, side, side), ())
    poster = Poster(options, spec=spec, ipc=config.ipc)
    height, width = poster.layout.canvas_hw
    assert 0.99 * config.ipc <= height * width / (num_classes * side * side) <= config.ipc
    patches = {"cifar10": 96, "cifar100": 400, "cub200": 1800, "tiny_imagenet": 800}
    assert len(poster.layout.items) == patches[config.dataset]


@pytest.mark.parametrize(
    ("name", "size", "reported"),
    [
        ("podd-cifar10-0.9", "60x153", "58.4 +- 0.5 % (PoDD paper, Table 1)"),
        ("podd-cifar100-0.9", "303x303", "37.4 +- 0.2 % (PoDD paper, Table 1)"),
        ("podd-cifar100-0.4", "202x202", "35.7 +- 0.2 % (PoDD paper, Table 1)"),
        ("podd-cub200-0.9", "302x610", "15.2 +- 0.4 % (PoDD paper, Table 1)"),
        ("podd-tiny-imagenet-0.9", "608x1211", "19.5 +- 0.2 % (PoDD paper, Table 1)"),
    ],
)
def test_published_sizes_and_figures(name, size, reported):
    assert PRESETS[name].config["options"]["repr"]["size"] == size
    assert PRESETS[name].reported == reported


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("cifar10", (40_000, 60, 200, 1e-3, 96, 5000, 3)),
        ("cifar100", (50_000, 100, 300, 1e-3, 50, 2000, 3)),
        ("cub200", (16_000, 60, 200, 1e-3, 200, 3000, 3)),
        ("tiny-imagenet", (100_000, 100, 300, 5e-4, 30, 500, 4)),
    ],
)
def test_published_hyper_parameters(dataset, expected):
    config = PRESETS[f"podd-{dataset}-0.5"].config
    algo, backbone = config["options"]["algo"], config["options"]["backbone"]
    assert expected == (
        config["steps"],
        algo["window"],
        algo["total"],
        algo["pixel_lr"],
        algo["batch"],
        algo["real_batch"],
        backbone["depth"],
    )
    assert algo["pixel_lr"] == algo["label_lr"] == algo["inner_lr"]
    assert backbone["width"] == 128
    assert config["data"]["whitening"] == "zca"


def test_only_cifar10_from_seven_tenths_has_fixed_labels():
    fixed = {
        name
        for name, preset in PRESETS.items()
        if preset.config["options"]["labeler"]["mode"] == "fixed"
    }
    assert fixed == {f"podd-cifar10-{ipc}" for ipc in ("0.7", "0.8", "0.9", "1.0")}
