from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator

from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.streams import seeded
from distill_core.contracts.whitening import Whitening
from distill_core.data.real_budget import RealBudget, real_budget
from distill_core.data.whitening import fit_whitening
from distill_core.engine.fresh_networks import new_backbone
from distill_core.evaluation.baselines import (
    bytes_control,
    downscale,
    full_control,
    full_path,
    random_control,
    random_images,
)
from distill_core.evaluation.evaluate import Evaluator
from distill_core.system.cache import cache_dir
from distill_core.testing.small import TinyBackbone, small_data

Make = Callable[[Generator], TinyBackbone]
RECIPE = Recipe(steps=15, batch_size=8, lr=0.01)


@pytest.fixture(scope="module")
def real() -> RealData:
    return small_data(3)


@pytest.fixture(scope="module")
def make_backbone(real: RealData) -> Make:
    network = partial(TinyBackbone, spec=real.spec)
    return lambda generator: new_backbone(network, generator, torch.device("cpu"))


def evaluator(real: RealData, make_backbone: Make, *, seed: int = 0) -> Evaluator:
    return Evaluator(real, make_backbone, {"name": "tiny", "options": {}}, seed)


def test_whole_images_are_training_images_with_their_labels(real: RealData) -> None:
    batch = random_images(real, real_budget(2.0, (8, 8)), generator=seeded(0, "draw"))
    assert batch.images.shape == (6, 3, 8, 8)
    assert torch.equal(batch.labels, torch.eye(3).repeat_interleave(2, 0))
    for image, label in zip(batch.images, batch.labels.argmax(1), strict=True):
        found = (real.train.images == image).flatten(1).all(1).nonzero().flatten()
        assert real.train.labels[found].tolist() == [int(label)]
    assert len({image.sum().item() for image in batch.images}) == 6


def test_draws_differ_from_network_to_network(real: RealData) -> None:
    budget = real_budget(1.0, (8, 8))
    batches = [random_images(real, budget, generator=seeded(0, k)).images for k in (0, 1, 0)]
    assert torch.equal(batches[0], batches[2])
    assert not torch.equal(batches[0], batches[1])


@pytest.mark.parametrize(("ipc", "stored"), [(0.3, 16), (0.6, 36), (0.01, 1)])
def test_a_downscaled_image_holds_no_more_than_was_stored(ipc: float, stored: int) -> None:
    """The map from images to what networks see is linear: its rank is what gets through."""
    budget = real_budget(ipc, (8, 8))
    identity = torch.eye(64).reshape(64, 1, 8, 8)
    seen = downscale(identity, budget, Whitening("none")).flatten(1)
    assert int(torch.linalg.matrix_rank(seen.double(), rtol=1e-5)) == stored
    assert math.prod(budget.stored_hw) == stored


def test_downscaling_keeps_constant_images(real: RealData) -> None:
    grey = torch.full((1, 3, 8, 8), 0.4)
    whitened = real.whitening.apply(grey)
    seen = downscale(whitened, real_budget(0.3, (8, 8)), real.whitening)
    assert torch.allclose(seen, whitened, atol=1e-5)


def test_downscaling_happens_before_zca() -> None:
    pictures = torch.randint(256, (40, 1, 4, 4), dtype=torch.uint8, generator=seeded(0, "zca"))
    whitening = fit_whitening("zca", pictures, strength=0.1)
    budget = real_budget(0.3, (4, 4))
    raw = pictures[:5].float() / 255
    expected = whitening.apply(downscale(raw, budget, Whitening("none")))
    seen = downscale(whitening.apply(raw), budget, whitening)
    assert torch.allclose(seen, expected, atol=1e-3)
    assert float(expected.abs().max()) > 0.1


def test_the_random_control_says_what_it_is(real: RealData, make_backbone: Make) -> None:
    results = [
        random_control(evaluator(real, make_backbone, seed=seed), RECIPE, ipc=0.3, nets=3)
        for seed in (0, 0, 1)
    ]
    assert results[0].accuracies == results[1].accuracies
    assert len(results[2].accuracies) == 3
    assert results[0].recipe == RECIPE
    assert results[0].notes == ("1 real image per class, down-scaled to 4x4 pixels (0.250 IPC)",)


@pytest.mark.parametrize(
    ("limit", "note"),
    [
        (3 * 192 * 2 + 5, "2 real images per class, whole (2.000 IPC): 1,152 bytes"),
        (3 * 48 + 5, "1 real image per class, down-scaled to 4x4 pixels (0.250 IPC): 144 bytes"),
    ],
)
def test_real_images_of_as_many_bytes_have_eight_bits_a_number(
    limit: int, note: str, real: RealData, make_backbone: Make
) -> None:
    found = bytes_control(evaluator(real, make_backbone), RECIPE, limit=limit, nets=1)
    assert found.notes == (f"{note}, 8 bits a number",)


def test_small_images_in_bytes_are_rounded() -> None:
    images = torch.rand(2, 1, 4, 4, generator=seeded(0, "round"))
    budget = RealBudget(1, (1, 4), (4, 4))  # the same pixel in every row
    exact, rounded = (
        downscale(images, budget, Whitening("none"), in_bytes=each) for each in (False, True)
    )
    assert torch.allclose(rounded, (255 * exact).round() / 255, atol=1e-6)
    assert not torch.allclose(rounded, exact, atol=1e-5)


def refuse(generator: Generator) -> TinyBackbone:
    raise AssertionError("trained again")


def full(real: RealData, make_backbone: Make):
    return full_control(evaluator(real, make_backbone), RECIPE, steps=12, nets=2)


def test_the_full_control_is_trained_once(
    real: RealData, make_backbone: Make, own_cache: Path
) -> None:
    first = full(real, make_backbone)
    assert (first.recipe.batch_size, first.recipe.steps) == (128, 12)
    assert first.notes == (f"all {len(real.train)} training images",)
    files = list((own_cache / "full").iterdir())
    assert len(files) == 1
    again = full(real, refuse)
    assert again.accuracies == first.accuracies
    assert again.notes[1] == f"from the cache ({files[0].name})"


def test_a_cache_that_cannot_be_written_costs_no_result(
    real: RealData, make_backbone: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "file"))
    found = full(real, make_backbone)
    assert len(found.accuracies) == 2
    assert found.notes[1].startswith("not kept for later runs: the cache/full/")
    assert str(tmp_path) not in found.notes[1]


def test_the_cache_knows_what_a_full_control_depends_on(real: RealData, own_cache: Path) -> None:
    base = evaluator(real, refuse)
    paths = [
        full_path(base, RECIPE, nets=2),
        full_path(base, RECIPE.model_copy(update={"lr": 0.02}), nets=2),
        full_path(base, RECIPE, nets=3),
    ]
    changes: list[dict[str, Any]] = [
        {"backbone": {"name": "tiny", "options": {"width": 3}}},
        {"seed": 1},
        {"real": dataclasses.replace(real, fingerprint="another")},
    ]
    for change in changes:
        paths.append(full_path(dataclasses.replace(base, **change), RECIPE, nets=2))
    assert len(set(paths)) == 6
    assert all(path.is_relative_to(own_cache) for path in paths)


@pytest.mark.parametrize("damage", ["", "{", json.dumps({"accuracies": []}), "[1]"])
def test_a_damaged_cache_entry_is_made_again(
    real: RealData,
    make_backbone: Make,
    own_cache: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = full(real, make_backbone)
    (path,) = (own_cache / "full").iterdir()
    path.write_text(damage)
    assert full(real, make_backbone).accuracies == first.accuracies
    assert json.loads(path.read_text())["accuracies"] == list(first.accuracies)
    assert f"{path} cannot be read: it is made anew" in caplog.text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda body: body["accuracies"].reverse(), "does not have the digest"),
        (lambda body: body["accuracies"].append(0.5), "does not hold the accuracies"),
        (lambda body: body.update(accuracies=[2.0, math.nan]), "does not hold the accuracies"),
        (lambda body: body["key"].update(seed=5), "was made from something else"),
        (lambda body: body["recipe"].update(lr=0.5), "does not have the digest"),
    ],
)
def test_a_result_that_was_changed_is_made_again(
    real: RealData,
    make_backbone: Make,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[dict[str, Any]], None],
    why: str,
) -> None:
    first = full(real, make_backbone)
    (path,) = (cache_dir() / "full").iterdir()
    body = json.loads(path.read_text())
    body["accuracies"] = [0.25, 0.75] if why.endswith("digest") else body["accuracies"]
    change(body)
    path.write_text(json.dumps(body))
    assert full(real, make_backbone).accuracies == first.accuracies
    assert why in caplog.text
    assert full(real, refuse).accuracies == first.accuracies


@pytest.mark.parametrize("kind", ["pipe", "giant", "folder"])
def test_what_is_no_file_of_results_is_neither_waited_for_nor_read(
    real: RealData, make_backbone: Make, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = full(real, make_backbone)
    (path,) = (cache_dir() / "full").iterdir()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 2**40)
    assert full(real, make_backbone).accuracies == first.accuracies
    assert "is not a file of results" in caplog.text


def test_a_result_of_an_earlier_version_is_used_and_said_to_have_no_digest(
    real: RealData, make_backbone: Make, own_cache: Path
) -> None:
    first = full(real, make_backbone)
    (path,) = (own_cache / "full").iterdir()
    body = json.loads(path.read_text())
    del body["sha256"], body["key"]
    path.write_text(json.dumps(body))
    again = full(real, refuse)
    assert again.accuracies == first.accuracies
    assert again.notes[1] == "kept by an earlier version, without a digest"
