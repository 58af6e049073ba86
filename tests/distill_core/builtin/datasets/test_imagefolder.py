from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from distill_core.builtin.datasets.class_folders import find_parts, unwrapped
from distill_core.builtin.datasets.imagefolder import ImageFolder, ImageFolderOptions
from distill_core.builtin.datasets.pictures import read_pictures
from distill_core.builtin.datasets.tree import open_tree
from distill_core.contracts.data import AUGMENTATIONS, RawData
from distill_core.data.prepare import check_raw
from registry import InputError, OptionError, check_options
from tests.distill_core.builtin.datasets.picture_files import archive, folder, png

SPLIT = {
    "train/dog/b.png": png(20),
    "train/dog/a.png": png(10),
    "train/cat/deep/er/c.PNG": png(30),
    "test/dog/d.png": png(40),
    "test/cat/e.png": png(50),
}
JUNK = {
    "__MACOSX/train/cat/._c.png": b"junk",
    "train/.DS_Store": b"junk",
    "train/dog/Thumbs.db": b"junk",
    "train/dog/notes.txt": b"about the dogs",
    ".git/config": b"junk",
}
CLASSES = {f"{name}/{n:02}.png": png(n) for name in ("ant", "bee") for n in range(10)}


def _load(path: Path, **options: Any) -> RawData:
    raw = ImageFolder(ImageFolderOptions(path=path, **options)).load()
    check_raw(raw)
    return raw


def _levels(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("make", [folder, archive])
@pytest.mark.parametrize("wrapper", ["", "wrapper/", "two/deep/"])
def test_train_and_test_folders(
    make: Callable[[Path, Mapping[str, bytes]], Path], wrapper: str, tmp_path: Path
) -> None:
    files = {wrapper + name: content for name, content in {**SPLIT, **JUNK}.items()}
    raw = _load(make(tmp_path / "data.zip", files))
    assert raw.spec.name == "imagefolder"
    assert raw.spec.class_names == ("cat", "dog")
    assert raw.spec.image_shape == (1, 8, 8)
    assert raw.spec.augmentations == AUGMENTATIONS
    assert _levels(raw.train_images) == [30, 10, 20]
    assert raw.train_labels.tolist() == [0, 1, 1]
    assert _levels(raw.test_images) == [50, 40]
    assert raw.test_labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("train", "test"), [("train", "val"), ("Train", "Test"), ("training", "validation")]
)
def test_other_names_of_the_two_parts(tmp_path: Path, train: str, test: str) -> None:
    files = {
        name.replace("train/", f"{train}/").replace("test/", f"{test}/"): content
        for name, content in SPLIT.items()
    }
    assert _levels(_load(folder(tmp_path, files)).test_images) == [50, 40]


def test_test_goes_before_val(tmp_path: Path) -> None:
    raw = _load(folder(tmp_path, {**SPLIT, "val/dog/x.png": png(99)}))
    assert 99 not in _levels(raw.test_images) + _levels(raw.train_images)


@pytest.mark.parametrize("start", ["", "train/"])
def test_without_a_test_folder_a_fixed_part_of_every_class_is_taken(
    tmp_path: Path, start: str
) -> None:
    path = folder(tmp_path, {start + name: content for name, content in CLASSES.items()})
    torch.manual_seed(1)
    raw = _load(path)
    torch.manual_seed(2)
    again = _load(path)
    assert raw.test_labels.bincount().tolist() == [2, 2]
    assert sorted(_levels(raw.train_images) + _levels(raw.test_images)) == sorted([*range(10)] * 2)
    assert torch.equal(raw.test_images, again.test_images)
    assert _load(path, test_fraction=0.5).test_labels.bincount().tolist() == [5, 5]
    assert _load(path, test_fraction=0.01).test_labels.bincount().tolist() == [1, 1]


def test_options_reach_the_images(tmp_path: Path) -> None:
    raw = _load(folder(tmp_path, SPLIT), size=5, colour="rgb", augmentations=("crop",))
    assert raw.train_images.shape == (3, 3, 5, 5)
    assert raw.spec.augmentations == ("crop",)


def test_options_from_the_command_line() -> None:
    made = check_options(ImageFolderOptions, {"path": "x", "augmentations": []}, where="dataset")
    assert made.augmentations == ()
    for wrong in ({}, {"path": "x", "augmentations": ["swirl"]}, {"path": "x", "colour": "blue"}):
        with pytest.raises(OptionError, match=r"dataset\.(path|augmentations|colour)"):
            check_options(ImageFolderOptions, wrong, where="dataset")


def test_the_augmentations_are_those_of_the_toolkit() -> None:
    annotation = ImageFolderOptions.model_fields["augmentations"].annotation
    assert get_args(get_args(annotation)[0]) == AUGMENTATIONS


def _without(*names: str) -> dict[str, bytes]:
    return {name: content for name, content in SPLIT.items() if not name.startswith(names)}


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "data has 0 class folders"),
        ({"a.png": png(0)}, "data has 0 class folders"),
        ({"only/a.png": png(0)}, "data/only has 0 class folders"),
        ({**SPLIT, "train/emu/notes.txt": b""}, "class folder .*data/train/emu has no images"),
        ({**SPLIT, "test/emu/x.png": png(0)}, "data/test/emu is a class that .*data/train lacks"),
        ({**_without("test/"), "other/x.png": png(0)}, "data has no folder test or val"),
        ({**_without("train/"), "other/x.png": png(0)}, "data has no folder train"),
        ({**SPLIT, "train/dog/bad.jpg": b"bad"}, r"data/train/dog/bad\.jpg cannot be read"),
    ],
    ids=[
        "empty",
        "no classes",
        "one class",
        "empty class",
        "class without training",
        "no test",
        "no train",
        "corrupt image",
    ],
)
@pytest.mark.parametrize("make", [folder, archive])
def test_what_cannot_be_used_is_named(
    make: Callable[[Path, Mapping[str, bytes]], Path],
    files: dict[str, bytes],
    what: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    name = "data" if make is folder else "data/x.zip"
    path = make(tmp_path / name, files)
    with pytest.raises(InputError, match=what.replace("data", name)) as raised:
        _load(path, size=8)
    assert raised.value.expected
    assert raised.value.next


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    folder(tmp_path, SPLIT)
    (tmp_path / "train" / "emu").mkdir()
    with pytest.raises(InputError, match="train/emu has no images"):
        _load(tmp_path)


def test_cifar10_from_its_archive(test_data: Callable[[str], Path]) -> None:
    """The whole takes some seconds; here its structure, and a few images pixel by pixel."""
    path = test_data("cifar10.zip")
    with open_tree(path, next="look.") as opened:
        tree = unwrapped(opened)
        (train, test), _ = find_parts(tree)
        assert [len(files) for files in train.values()] == [5000] * 10
        assert [len(files) for files in test.values()] == [1000] * 10
        assert list(train)[:3] == ["airplane", "automobile", "bird"]
        files = [found[-1] for found in train.values()]
        images = read_pictures(tree, files, size=None, colour="auto")
        for file, image in zip(files, images, strict=True):
            expected = np.asarray(Image.open(BytesIO(tree.read(file))))
            assert np.array_equal(expected, image.permute(1, 2, 0))
    assert images.shape == (10, 3, 32, 32)
