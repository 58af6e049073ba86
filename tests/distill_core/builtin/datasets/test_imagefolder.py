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
from distill_core.builtin.datasets.open_tree import open_tree
from distill_core.builtin.datasets.pictures import read_pictures, usual_size
from distill_core.contracts.data import AUGMENTATIONS, RawData
from distill_core.data.data_notes import data_notes
from distill_core.data.prepare import check_raw
from registry import InputError, OptionError, check_options
from tests.distill_core.builtin.datasets.picture_files import archive, encoded, folder, png

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


def test_none_is_held_out_of_a_class_with_a_single_image(tmp_path: Path) -> None:
    files = {"cat/a.png": png(1), "dog/a.png": png(2), "dog/b.png": png(3)}
    assert _load(folder(tmp_path / "one", files)).test_labels.tolist() == [1]
    del files["dog/b.png"]
    with pytest.raises(InputError, match="no test images") as caught:
        _load(folder(tmp_path / "none", files))
    assert "of a class with a single one none is held out" in caught.value.next


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
        ({"only/a.png": png(0)}, "data/only has 0 class folders, but pictures"),
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


MANY = {f"{n}.png": png(n) for n in range(5)}


def _tree(layout: Mapping[str, Mapping[str, bytes]]) -> dict[str, bytes]:
    return {f"{name}/{file}": content for name, files in layout.items() for file, content in
            files.items()}  # fmt: skip


@pytest.mark.parametrize("name", ["train", "valid", "Test"])
@pytest.mark.parametrize("start", ["", "pictures/", "train/"])
def test_a_class_may_be_named_as_a_part(tmp_path: Path, name: str, start: str) -> None:
    files = _tree({f"{start}{each}": MANY for each in (name, "bus", "ship")})
    assert set(_load(folder(tmp_path, files)).spec.class_names) == {name, "bus", "ship"}


def test_a_class_may_be_named_as_a_part_inside_the_parts(tmp_path: Path) -> None:
    files = _tree(
        {f"{part}/{name}": MANY for part in ("train", "test") for name in ("train", "bus")}
    )
    raw = _load(folder(tmp_path, files))
    assert raw.spec.class_names == ("bus", "train")
    assert len(raw.train_images) == len(raw.test_images) == 10


@pytest.mark.parametrize(
    "names", [("train", "valid"), ("train", "test"), ("test", "valid"), ("train", "Val", "bus")]
)
@pytest.mark.parametrize("start", ["", "train/", "a/valid/"])
def test_classes_named_as_all_parts_are_told_apart_by_the_user(
    tmp_path: Path, names: tuple[str, ...], start: str
) -> None:
    path = folder(tmp_path, _tree({f"{start}{name}": MANY for name in names}))
    with pytest.raises(InputError, match="can be classes of such names, or parts") as raised:
        _load(path)
    assert raised.value.next.startswith("-o dataset.folders=classes reads each folder as a class")
    assert _load(path, folders="classes").spec.class_names == tuple(sorted(names))


def test_two_classes_named_as_parts_lie_inside_parts(tmp_path: Path) -> None:
    layout = {f"{part}/{name}": MANY for part in ("train", "valid") for name in ("train", "valid")}
    raw = _load(folder(tmp_path, _tree(layout)))
    assert raw.spec.class_names == ("train", "valid")
    assert len(raw.train_images) == len(raw.test_images) == 10


def test_classes_with_folders_inside_are_not_silently_parts(tmp_path: Path) -> None:
    layout = {f"{name}/{day}": MANY for name in ("train", "valid") for day in ("monday", "friday")}
    path = folder(tmp_path, _tree(layout))
    assert _load(path).notes == (
        "valid/ is the test part; -o dataset.folders=classes reads train and valid as classes.",
    )
    assert _load(path, folders="classes").spec.class_names == ("train", "valid")


@pytest.mark.parametrize("test", ["test/", "test/unknown/"])
def test_val_is_read_where_test_has_no_labels(tmp_path: Path, test: str) -> None:
    files = {name.replace("test/", "val/"): content for name, content in SPLIT.items()}
    files |= {f"{test}{name}": content for name, content in MANY.items()}
    raw = _load(folder(tmp_path, files))
    assert _levels(raw.test_images) == [50, 40]
    assert "val/ is the test part" in raw.notes[0]
    assert "5 in test/" in raw.notes[1]


def test_test_images_are_held_out_where_test_has_no_labels(tmp_path: Path) -> None:
    files = {f"train/{name}": content for name, content in CLASSES.items()}
    raw = _load(folder(tmp_path, files | {f"test/{n}": b for n, b in MANY.items()}))
    assert raw.test_labels.bincount().tolist() == [2, 2]
    assert "test images are held out of train/" in raw.notes[0]
    assert "5 in test/" in raw.notes[1]


def test_a_folder_without_images_beside_train_does_not_matter(tmp_path: Path) -> None:
    files = {f"train/{name}": content for name, content in CLASSES.items()}
    raw = _load(folder(tmp_path, files | {"annotations/a.xml": b""}))
    assert raw.test_labels.bincount().tolist() == [2, 2]
    assert raw.notes == ("train/ alone has images, so test images are held out of it.",)


def test_a_class_without_test_images_is_fine(tmp_path: Path) -> None:
    files = {**SPLIT, "train/emu/x.png": png(7)}
    (tmp_path / "test/emu").mkdir(parents=True)
    raw = _load(folder(tmp_path, files))
    assert raw.spec.class_names == ("cat", "dog", "emu")
    assert data_notes(raw) == ("no test images of: emu; no accuracy says anything about them.",)


def test_accents_of_other_systems_are_the_same_class(tmp_path: Path) -> None:
    files = _tree(
        {"train/caf\u00e9": MANY, "train/bar": MANY, "test/cafe\u0301": {"x.png": png(9)}}
    )
    raw = _load(folder(tmp_path, files))
    assert raw.spec.class_names == ("bar", "caf\u00e9")
    assert raw.test_labels.tolist() == [1]


def test_two_folders_of_one_part_are_refused(tmp_path: Path) -> None:
    files = {**SPLIT, "training/dog/b.png": png(20)}
    with pytest.raises(InputError, match="train and training, which both are one part"):
        _load(folder(tmp_path, files))


def test_what_is_not_read_is_counted_and_named(tmp_path: Path) -> None:
    files = {
        **SPLIT,
        "train/dog/p1.heic": b"",
        "train/dog/p2.HEIC": b"",
        "test/cat/notes": b"",
        "train/loose.png": png(1),
        "val/dog/x.png": png(2),
        "alone.png": png(3),
        "readme.txt": b"",
    }
    assert _load(folder(tmp_path, files)).notes == (
        "pictures beside the class folders are not read: 1 in no folder, 1 in train/, 1 in val/.",
        "files with other endings than a picture's are not read: 2 .heic, 1 without ending; the "
        "first is test/cat/notes.",
    )


@pytest.mark.parametrize("make", [folder, archive])
@pytest.mark.parametrize("wrapper", ["", "wrapper/"])
def test_folders_that_begin_with_a_dot_are_named(
    make: Callable[[Path, Mapping[str, bytes]], Path], wrapper: str, tmp_path: Path
) -> None:
    files = {**SPLIT, **JUNK, "train/.5/a.png": png(4), "train/.5/b.png": png(4)}
    files |= {"train/dog/.cache/a.png": b"", "train/.dir/": b""} if make is archive else {}
    files = {wrapper + name: content for name, content in files.items()}
    said = "folders whose names begin with a dot are no classes and not read: train/.5"
    said += ", train/.dir." if make is archive else "."
    assert said in _load(make(tmp_path / "data.zip", files)).notes


def test_a_class_with_other_files_alone_says_which(tmp_path: Path) -> None:
    files = {**SPLIT, "train/emu/1.heic": b"", "train/emu/2.heic": b""}
    with pytest.raises(InputError, match=r"has no images, but other files: 2 \.heic"):
        _load(folder(tmp_path, files))


def test_jfif_is_a_jpeg(tmp_path: Path) -> None:
    jpeg = encoded(Image.new("L", (8, 8), 90), "JPEG")
    raw = _load(folder(tmp_path, {**SPLIT, "train/dog/c.jfif": jpeg, "train/dog/d.JPE": jpeg}))
    assert _levels(raw.train_images) == [30, 10, 20, 90, 90]
    assert raw.notes == ()


def test_what_is_lost_in_pictures_is_noted(tmp_path: Path) -> None:
    deep = encoded(Image.fromarray(np.full((8, 8), 1023, np.uint16)))
    raw = _load(folder(tmp_path, {**SPLIT, "train/dog/d.png": deep, "test/cat/w.png": png(9, 99)}))
    assert "1 picture of 16 bits grey with values up to 1023 of 65535" in raw.notes[0]
    assert "92 % of test/cat/w.png" in raw.notes[1]


def test_training_images_among_the_test_images_are_noted(tmp_path: Path) -> None:
    folder(tmp_path, {name: content for name, content in SPLIT.items() if "train" in name})
    (tmp_path / "test").symlink_to("train", target_is_directory=True)
    (line,) = data_notes(_load(tmp_path))
    assert line.startswith("3 of 3 test images are training images, too")
    assert data_notes(_load(folder(tmp_path / "b", SPLIT))) == ()


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
        (images,) = read_pictures(tree, [files], size=usual_size(tree, files[0]), colour="auto")
        for file, image in zip(files, images, strict=True):
            expected = np.asarray(Image.open(BytesIO(tree.read(file))))
            assert np.array_equal(expected, image.permute(1, 2, 0))
    assert images.shape == (10, 3, 32, 32)
