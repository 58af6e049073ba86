"""A run goes on, and is judged, with its own data alone, wherever they lie."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distill_core.commands.evaluate import cross_evaluate
from distill_core.commands.run import run
from distill_core.config.places import how_to_move, places_of
from distill_core.config.run_config import RunConfig, resolve
from distill_core.config.settings import merge
from distill_core.data import prepare as preparing
from distill_core.run.checkpoint import read_checkpoint, save_checkpoint
from distill_core.run.directory import settings_of
from registry import InputError
from tests.distill_core.cli.fakes import distill
from tests.distill_core.small_run import installed

SETTINGS: dict[str, Any] = {
    "repr": "images",
    "labeler": "soft",
    "orderer": "photometric",
    "algo": "ratbptt",
    "dataset": "imagefolder",
    "steps": 1,
    "device": "cpu",
    "data": {"whitening": "zca"},
    "evaluate": {"nets": 2, "steps": 2, "controls": False},
    "options": {
        "algo": {"window": 1, "total": 1, "real_batch": 4},
        "backbone": {"width": 2, "depth": 1},
    },
}
CLASSES = ("cat", "dog", "emu", "fox")


def paint(file: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def at(path: Path) -> dict[str, Any]:
    return {"options": {"dataset": {"path": str(path)}}}


def moved(run_dir: Path, data: Path) -> RunConfig:
    return resolve(merge(settings_of(run_dir), at(data)), installed())


def gone_on(place: Path, data: str = "data") -> None:
    """Resume the run for one more outer step with the data in another folder."""
    config = moved(place / "run", place / data)
    longer = config.model_copy(update={"steps": config.steps + 1})
    run(longer, installed(), place / "run", resume=True, overwrite=False, quiet=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for k, name in enumerate(CLASSES):
        for image in range(4):
            paint(folder / "data" / name / f"{image}.png", 10 * k + image)
    config = resolve(merge(SETTINGS, at(folder / "data")), installed())
    run(config, installed(), folder / "run", resume=False, overwrite=False, quiet=True)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A run of one outer step, and a copy of its data at another place, for the test to change."""
    return shutil.copytree(made, tmp_path / "place")


def replaced(data: Path) -> None:
    paint(data / "cat" / "0.png", 99)


def removed(data: Path) -> None:
    (data / "cat" / "0.png").unlink()


def renamed(data: Path) -> None:
    (data / "cat").rename(data / "kat")


def swapped(data: Path) -> None:
    (data / "cat").rename(data / "x")
    (data / "dog").rename(data / "cat")
    (data / "x").rename(data / "dog")


def added(data: Path) -> None:
    shutil.copytree(data / "cat", data / "gnu")


def taken_away(data: Path) -> None:
    shutil.rmtree(data / "fox")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (replaced, "some of the images are others"),
        (removed, "class 'cat' has 2 training images, not 3"),
        (renamed, "class 'cat' is gone; class 'kat' is new"),
        (swapped, "some of the images are others"),
        (added, "class 'gnu' is new"),
        (taken_away, "class 'fox' is gone"),
    ],
)
def test_other_data_are_refused_before_anything_slow(
    place: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], text: str
) -> None:
    change(place / "data")
    before = {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}
    monkeypatch.setattr(preparing, "fit_whitening", lambda *_, **__: pytest.fail("whitened"))
    with pytest.raises(InputError, match="have changed since the run") as caught:
        gone_on(place)
    assert text in caught.value.what
    assert "-o dataset.path=PATH" in caught.value.next
    after = {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}
    assert after == before
    config = moved(place / "run", place / "data")
    with pytest.raises(InputError, match="have changed since the run"):
        cross_evaluate(place / "run", {"convnet": config}, installed())


def test_the_same_data_at_another_place_are_gone_on_with(place: Path) -> None:
    gone_on(place)
    assert f'path = "{place / "data"}"' in (place / "run" / "run.toml").read_text()
    state, _ = read_checkpoint(place / "run")
    assert state["step"] == 2
    assert state["data"]["class_names"] == list(CLASSES)
    assert (state["data"]["train"], state["data"]["test"]) == ([3] * 4, [1] * 4)


def test_the_commands_take_the_new_place(place: Path) -> None:
    run_dir, there = str(place / "run"), ("-o", f"dataset.path={place / 'data'}")
    assert distill("verify", run_dir, "--evaluate", *there).exit_code == 0
    assert distill("evaluate", run_dir, "--nets", "1", *there).exit_code == 0
    replaced(place / "data")
    for words in (("verify", run_dir, "--evaluate"), ("evaluate", run_dir)):
        result = distill(*words, *there)
        assert result.exit_code == 2
        assert "have changed since the run: some of the images are others" in result.stderr
    alone = distill("verify", run_dir, *there)
    assert "-o has no effect without --evaluate" in alone.stderr
    wrong = distill("verify", run_dir, "--evaluate", "-o", "dataset.size=4")
    assert "one of: -o dataset.path=VALUE" in wrong.stderr


def without_identity(run_dir: Path) -> None:
    """Make the checkpoint one of an earlier version, which kept no identity of the data."""
    state, config = read_checkpoint(run_dir)
    del state["data"]
    save_checkpoint(run_dir, state, resolve(config, installed()))


def test_an_old_checkpoint_is_vouched_for_by_the_artefact(place: Path) -> None:
    without_identity(place / "run")
    gone_on(place)
    without_identity(place / "run")
    replaced(place / "data")
    with pytest.raises(InputError, match="have changed since the run"):
        gone_on(place)


def test_with_neither_it_goes_on_and_says_what_was_not_checked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_identity(place / "run")
    (place / "run" / "distilled.safetensors").unlink()
    with pytest.raises(InputError, match=r"belongs to a run with dataset\.path = "):
        gone_on(place)
    config = resolve(settings_of(place / "run"), installed())
    run(config, installed(), place / "run", resume=True, overwrite=False)
    assert "whether they have changed since was not checked" in capsys.readouterr().out


def config_of(dataset: str, **options: Any) -> RunConfig:
    return resolve(
        merge(SETTINGS, {"dataset": dataset, "options": {"dataset": options}}), installed()
    )


def test_what_is_a_place() -> None:
    assert places_of(config_of("cifar10")) == {"dataset.download": False, "dataset.root": None}
    assert places_of(config_of("tiny_imagenet", root="a")) == {"dataset.root": "a"}
    assert places_of(config_of("digits")) == {}
    assert how_to_move(config_of("cub200")) == "-o dataset.root=PATH"
    assert how_to_move(config_of("shapes")) == ""
