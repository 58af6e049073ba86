"""Images that stay on the disk make the same run as images in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.commands import run as run_command
from distill_core.contracts.data import RealData
from distill_core.data import storage
from distill_core.data.picture_space import kept_sets
from distill_core.data.stored_split import StoredSplit
from distill_core.data.whitening import fit_whitening
from distill_core.run.assemble import load_real
from registry import EnvironmentFault, InputError
from tests.caches import make_cache
from tests.distill_core.small_run import installed, small_config


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE", str(make_cache(tmp_path / "cache")))


def _real(storage: str, **data: Any) -> RealData:
    return load_real(small_config(data={"storage": storage, **data}), installed())


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("whitening", ["none", "standardise", "zca", "zca_kornia", "zca_frepo"])
def test_images_draws_and_fingerprint_are_those_in_memory(whitening: str) -> None:
    """Exact, except for ZCA, whose products of other shapes round by some 1e-6."""
    memory, disk = (_real(kind, whitening=whitening) for kind in ("float32", "memmap"))
    near = {"rtol": 1e-5, "atol": 1e-5} if "zca" in whitening else {"rtol": 0, "atol": 0}
    assert disk.fingerprint == memory.fingerprint
    assert len(disk.validation) > 0
    for name in ("train", "validation", "test"):
        there, here = getattr(disk, name), getattr(memory, name)
        assert isinstance(there, StoredSplit)
        assert torch.equal(there.labels, here.labels)
        torch.testing.assert_close(there.take(slice(None)), here.images, **near)
        index = here.draw(5, generator=_seeded())
        assert torch.equal(there.draw(5, generator=_seeded()), index)
        parts = [index[:2], slice(1, 3), here.labels == 1]
        for one, other in zip(there.stream(parts), here.stream(parts), strict=True):
            torch.testing.assert_close(one, other, **near)
        for size in (3, 10**6):
            for one, other in zip(
                there.batch(size, generator=_seeded()),
                here.batch(size, generator=_seeded()),
                strict=True,
            ):
                torch.testing.assert_close(one, other, **near)


@pytest.mark.parametrize(
    "settings",
    [
        {"orderer": "photometric", "options": {"repr": {"init": "real"}}},
        {"algo": "dm", "options": {"labeler": {"mode": "fixed"}}},
    ],
)
def test_a_run_with_its_controls_is_the_same_byte_for_byte(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    found = {}
    for kind in ("float32", "memmap"):
        judged = {"nets": 1, "full_nets": 1, "steps": 2}
        config = small_config(steps=1, data={"storage": kind}, evaluate=judged, **settings)
        out = tmp_path / kind
        results = run_command.run(config, installed(), out, resume=False, overwrite=False)
        accuracies = {name: result.accuracies for name, result in results.items()}
        found[kind] = accuracies, (out / "distilled.safetensors").read_bytes()
        if kind == "memmap":  # the full set is trained on anew, not found in the cache
            assert "cache" not in "".join(results["full"].notes)
        for path in (tmp_path / "cache" / "full").glob("*"):
            path.unlink()
    assert found["float32"] == found["memmap"]


def test_a_run_goes_on_with_its_images_elsewhere_but_not_with_rounded_ones(tmp_path: Path) -> None:
    out = tmp_path / "run"

    def go(kind: str, steps: int) -> None:
        config = small_config(
            steps=steps, data={"storage": kind}, evaluate={"nets": 1, "controls": False}
        )
        run_command.run(config, installed(), out, resume=steps > 1, overwrite=False)

    go("float32", 1)
    go("memmap", 2)
    with pytest.raises(InputError, match="have changed since the run"):
        go("float16", 3)


def test_who_asks_for_all_images_at_once_is_told() -> None:
    with pytest.raises(InputError, match="stay on the disk") as caught:
        _ = _real("memmap").train.images
    assert "data.storage=float32" in caught.value.next


def test_where_memory_would_not_do_they_stay_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not isinstance(_real("auto").train, StoredSplit)
    monkeypatch.setattr(storage, "free_memory", lambda device: 1000.0)
    real = _real("auto")
    assert isinstance(real.train, StoredSplit)
    assert "stay on the disk" in real.notes[-1]
    assert not isinstance(_real("float32").train, StoredSplit)


def test_a_file_that_is_cut_meanwhile_is_said() -> None:
    real = _real("memmap")
    (folder,) = kept_sets()
    os.truncate(folder / "train_images.bin", 100)
    with pytest.raises(EnvironmentFault, match="was cut while it was in use"):
        real.train.take(slice(0, 2))


def test_a_file_that_vanishes_meanwhile_serves_on() -> None:
    real = _real("memmap")
    before = real.train.take(slice(0, 9))
    (folder,) = kept_sets()
    (folder / "train_images.bin").unlink()
    assert torch.equal(real.train.take(slice(0, 9)), before)


def test_zca_of_large_images_is_refused() -> None:
    images = torch.zeros(1, dtype=torch.uint8).expand(2, 3, 72, 72)
    with pytest.raises(InputError, match="takes a matrix of") as caught:
        fit_whitening("zca", images, strength=0.1)
    assert "standardise" in caught.value.next
