from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets

from distill_core.builtin.datasets.torchvision_sets import (
    Cifar10,
    Cifar100,
    FashionMnist,
    Mnist,
    Svhn,
    TorchvisionOptions,
    TorchvisionSet,
)
from distill_core.data.prepare import check_raw
from registry import EnvironmentFault, InputError

SETS = [Cifar10, Cifar100, Mnist, FashionMnist, Svhn]


def _idx(numbers: np.ndarray) -> bytes:
    """The format of MNIST: type and rank, sizes, bytes."""
    header = struct.pack(f">HBB{numbers.ndim}I", 0, 8, numbers.ndim, *numbers.shape)
    return header + numbers.astype(np.uint8).tobytes()


def _write_idx(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28))
    labels = np.arange(12) % 10
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(_idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(_idx(labels))
    return images, labels


@pytest.mark.parametrize("which", [Mnist, FashionMnist])
def test_files_of_mnist_are_read(which: type[TorchvisionSet], tmp_path: Path) -> None:
    images, labels = _write_idx(tmp_path / which.source / "raw")
    raw = which(TorchvisionOptions(root=tmp_path)).load()
    check_raw(raw)
    assert raw.spec.image_shape == (1, 28, 28)
    assert np.array_equal(raw.train_images[:, 0].numpy(), images)
    assert raw.test_labels.tolist() == labels.tolist()
    names = raw.spec.class_names
    assert (names[3], "flip" in raw.spec.augmentations) == (
        ("three", False) if which is Mnist else ("Dress", True)
    )


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    _write_idx(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0")
    with pytest.raises(InputError, match=f"mnist is not in {tmp_path}, or is damaged"):
        Mnist(TorchvisionOptions(root=tmp_path)).load()


@pytest.mark.parametrize("which", SETS)
def test_missing_files_say_how_to_get_them(which: type[TorchvisionSet], own_cache: Path) -> None:
    with pytest.raises(InputError) as raised:
        which(TorchvisionOptions()).load()
    assert raised.value.what.startswith(f"{which.name} is not in {own_cache / 'data'}")
    assert f"torchvision.datasets.{which.source}" in raised.value.expected
    assert "-o dataset.download=true" in raised.value.next
    assert "-o dataset.root=" in raised.value.next
    assert "--dataset imagefolder -o dataset.path=" in raised.value.next
    assert "download=True" not in str(raised.value)  # torchvision's own advice


@pytest.mark.parametrize("error", [URLError("no network"), RuntimeError("no mirror"), OSError(28)])
def test_a_failed_download_is_a_sentence(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: str, *, download: bool, train: bool) -> None:
        assert download
        raise error

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(EnvironmentFault, match="cifar10 could not be downloaded") as raised:
        Cifar10(TorchvisionOptions(root=tmp_path, download=True)).load()
    assert str(tmp_path) in raised.value.what
    assert "torchvision.datasets.CIFAR10" in raised.value.next


def _stand_in(monkeypatch: pytest.MonkeyPatch, source: str, **contents: Any) -> list[Any]:
    """Put a torchvision dataset with these contents in place of the real one."""
    calls = []

    def make(root: str, *, download: bool, **which: Any) -> SimpleNamespace:
        calls.append(which)
        return SimpleNamespace(**contents)

    monkeypatch.setattr(torchvision.datasets, source, make)
    return calls


@pytest.mark.parametrize("which", [Cifar10, Cifar100])
def test_cifar_has_its_channels_first(
    which: type[TorchvisionSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    names = ["apple", "bear", "castle"]
    calls = _stand_in(monkeypatch, which.source, data=data, targets=[0, 2, 1, 0], classes=names)
    raw = which(TorchvisionOptions()).load()
    check_raw(raw)
    assert calls == [{"train": True}, {"train": False}]
    assert raw.spec.class_names == tuple(names)
    assert torch.equal(raw.train_images, torch.from_numpy(data).permute(0, 3, 1, 2))
    assert raw.train_labels.tolist() == [0, 2, 1, 0]


def test_svhn_has_its_channels_first_already(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)
    calls = _stand_in(monkeypatch, "SVHN", data=data, labels=np.arange(10))
    raw = Svhn(TorchvisionOptions()).load()
    check_raw(raw)
    assert calls == [{"split": "train"}, {"split": "test"}]
    assert raw.spec.class_names[:2] == ("zero", "one")
    assert "flip" not in raw.spec.augmentations
    assert np.array_equal(raw.train_images, data)
