"""Every component that is installed keeps the contract of its kind.

The components come from the catalogues; the table below holds settings for those whose defaults
need a file or take long, and nothing depends on it being complete.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from distill_core.config.discovery import collect_presets, discover
from distill_core.config.run_config import resolve
from distill_core.contracts.streams import seeded
from distill_core.hookspecs import KINDS
from distill_core.testing import check_component
from registry import InputError
from tests.distill_core.builtin.datasets.shard_files import items, rows, saved_dict, table, tar

PLUGINS = discover()
COMPONENTS = [(kind.name, name) for kind in KINDS for name in PLUGINS[kind.name]]


def grid_file(folder: Path) -> dict[str, Any]:
    path = folder / "grid.txt"
    path.write_text("5, 3, 1\n0, 2, 4\n")
    return {"file": str(path)}


def image_folder(folder: Path) -> dict[str, Any]:
    generator = seeded(0, "pictures")
    for part, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog"):
            place = folder / part / name
            place.mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(256, (9, 11, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(place / f"{index}.png")
    return {"path": str(folder), "size": 8}


def hf_folder(folder: Path) -> dict[str, Any]:
    pytest.importorskip("pyarrow")
    saved_dict(folder, train=table(rows(8)), test=table(rows(4)))
    return {"path": str(folder)}


SETTINGS: dict[tuple[str, str], Callable[[Path], dict[str, Any]]] = {
    ("representation", "ddif"): lambda folder: {"fit_steps": 3},  # of 5,000
    ("representation", "gsdd"): lambda folder: {"fit_steps": 3},  # of 200
    ("representation", "speed"): lambda folder: {
        **{"tokens": 3, "dim": 4, "kept": 5},  # larger ones need larger images
        "fit_steps": 3,  # of 400
    },
    ("orderer", "given"): grid_file,
    ("dataset", "imagefolder"): image_folder,
    ("dataset", "hf"): hf_folder,
    ("dataset", "webdataset"): lambda folder: {"path": str(tar(folder / "0.tar", items(8)))},
    ("dataset", "shapes"): lambda folder: {"size": 8, "train_per_class": 3, "test_per_class": 2},
    ("algorithm", "ratbptt"): lambda folder: {"window": 4, "total": 9},
    ("algorithm", "dd"): lambda folder: {"steps": 3},
    ("algorithm", "bptt"): lambda folder: {"steps": 3, "real_per_class": 4},
    ("algorithm", "tesla"): lambda folder: {"syn_steps": 3, "experts": 2},
    ("algorithm", "ftd"): lambda folder: {"syn_steps": 3, "experts": 2},
    ("algorithm", "mtt"): lambda folder: {"syn_steps": 3, "experts": 2},
    ("algorithm", "rcig"): lambda folder: {
        "pool": 2,
        "inner_steps": 3,
        "inner_lr": 0.1,
        "inverse_steps": 3,
        "inverse_lr": 0.1,
    },
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_everything_of_ours_was_discovered() -> None:
    assert [failure.reason for failure in PLUGINS.failures] == []
    assert {provider.entry_point for provider in PLUGINS.providers} >= {"builtin", "podd"}
    assert all(PLUGINS[kind.name].names() for kind in KINDS)


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=lambda part: part)
def test_every_record_resolves(kind: str, name: str) -> None:
    component = PLUGINS[kind][name]
    assert callable(component.resolve_factory())
    component.resolve_options().model_json_schema()


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=lambda part: part)
def test_every_component_keeps_its_contract(kind: str, name: str, tmp_path: Path) -> None:
    settings = SETTINGS.get((kind, name), lambda folder: {})(tmp_path)
    has_files_elsewhere = "root" in PLUGINS[kind][name].resolve_options().model_fields
    try:
        check_component(PLUGINS, kind, name, settings)
    except InputError as missing:
        if kind == "dataset" and has_files_elsewhere:
            pytest.skip(f"needs files: {missing.what}")
        raise


@pytest.mark.parametrize("name", collect_presets(PLUGINS))
def test_every_preset_is_a_whole_configuration(name: str) -> None:
    preset = collect_presets(PLUGINS)[name]
    resolve(preset.config, PLUGINS)
    assert preset.summary
