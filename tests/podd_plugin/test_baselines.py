"""Presets of the paper's Table 2: all its figures, and settings that the components accept."""

from __future__ import annotations

import math

import pytest

from distill_core.config.run_config import resolve
from podd_plugin.baselines import baseline_presets
from tests.distill_core.small_run import installed

PRESETS = {preset.name: preset for preset in baseline_presets()}
# Table 2 of arXiv:2403.12040, typed once more: CIFAR-10, CIFAR-100, CUB-200, Tiny ImageNet.
TABLE = """
bptt    49.1±0.6 21.3±0.6 -        -
frepo   45.6±0.1 26.3±0.1 -        16.9±0.1
rcig    49.6±1.2 35.5±0.7 -        22.4±0.3
ratbptt 53.2±0.7 35.3±0.4 13.8±0.3 20.1±0.3
dsa     28.8±0.7 13.9±0.3 1.3±0.1  6.6±0.2
dm      26.0±0.8 11.4±0.3 1.6±0.1  3.9±0.2
mtt     46.3±0.8 24.3±0.3 2.2±0.1  8.8±0.3
ftd     46.8±0.3 25.2±0.2 -        10.4±0.3
tesla   48.5±0.8 24.8±0.4 -        -
"""
DATASETS = ("cifar10", "cifar100", "cub200", "tiny-imagenet")


def test_every_figure_of_the_table_has_a_preset():
    rows = [line.split() for line in TABLE.strip().splitlines()]
    printed = {
        f"{method}-{dataset}": f"{figure.replace('±', ' +- ')} % (PoDD paper, Table 2)"
        for method, *figures in rows
        for dataset, figure in zip(DATASETS, figures, strict=True)
        if figure != "-"
    }
    assert {name: preset.reported for name, preset in PRESETS.items()} == printed


@pytest.mark.parametrize("name", PRESETS)
def test_components_accept_it(name):
    config = resolve(PRESETS[name].config, installed())
    assert config.ipc == 1
    assert config.data.validation == 0
    assert config.algo == name.partition("-")[0]


TRAJECTORIES = [name for name in PRESETS if name.startswith(("mtt", "ftd", "tesla"))]


@pytest.mark.parametrize("name", ["bptt-cifar10", "ratbptt-cifar10", *TRAJECTORIES])
def test_all_images_are_in_each_step_up_to_ten_of_each_class(name):
    config = resolve(PRESETS[name].config | {"ipc": 10.0}, installed())
    classes = {"cifar10": 10, "cifar100": 100, "cub200": 200, "tiny_imagenet": 200}[config.dataset]
    assert config.options["algo"].batch >= 10 * classes


@pytest.mark.parametrize(
    ("dataset", "steps"),
    [("cifar10", 40_000), ("cifar100", 50_000), ("cub200", 16_000), ("tiny-imagenet", 100_000)],
)
def test_images_by_ratbptt_have_the_outer_steps_of_the_paper_s_posters(dataset, steps):
    assert resolve(PRESETS[f"ratbptt-{dataset}"].config, installed()).steps == steps


@pytest.mark.parametrize(("name", "items"), [("bptt-cifar10", 10), ("bptt-cifar100", 100)])
def test_bptt_starts_at_the_deviation_of_the_published_uniform_start(name, items):
    """Xavier's bound on an embedding of N items of 3072 numbers; deviation of noise: 1 / sqrt."""
    bound = math.sqrt(6 / (items + 3072))
    scale = resolve(PRESETS[name].config, installed()).options["repr"].init_scale
    assert scale / math.sqrt(3072) == pytest.approx(bound / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize("name", ["bptt-cifar10", "bptt-cifar100", "ratbptt-cifar100"])
def test_inner_batches_have_an_image_of_every_class(name):
    config = resolve(PRESETS[name].config, installed())
    assert config.options["algo"].batch >= {"cifar10": 10, "cifar100": 100}[config.dataset]


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith(("frepo", "rcig"))])
def test_regressions_have_the_published_whitening_margin_average_and_networks(name):
    config = resolve(PRESETS[name].config, installed())
    assert config.data.whitening == "zca_frepo"
    assert config.options["algo"].margin
    assert config.ema == (0.99 if config.algo == "rcig" else None)
    network = config.options["backbone"]
    assert (network.growth, network.init) == (2, "lecun")
    if config.algo == "rcig":
        large = config.dataset == "tiny_imagenet"
        assert (network.norm, network.activation) == ("none", "relu" if large else "softplus")
        assert large or network.sharpness == 60
