from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from distill_core.builtin.datasets.options import TinyImagenetOptions
from distill_core.builtin.datasets.tiny_imagenet import TinyImagenet
from distill_core.contracts.data import RawData
from distill_core.data.prepare import check_raw
from registry import InputError
from tests.distill_core.builtin.datasets.picture_files import archive, folder, png

TOP = "tiny-imagenet-200/"
FILES = {
    f"{TOP}wnids.txt": b"n02\nn01\n",
    f"{TOP}words.txt": b"n01\tgoldfish, Carassius auratus\nn02\tEgyptian cat\nn03\tother\n",
    f"{TOP}train/n01/images/n01_0.JPEG": png(10, 64, 64),
    f"{TOP}train/n01/n01_boxes.txt": b"n01_0.JPEG\t0\t10\t63\t58\n",
    f"{TOP}train/n02/images/n02_0.JPEG": png(20, 64, 64),
    f"{TOP}train/n02/images/n02_1.JPEG": png((30, 0, 0), 64, 64),
    f"{TOP}val/val_annotations.txt": b"val_0.JPEG\tn02\t0\t32\t44\t62\nval_1.JPEG\tn01\t0\t0\n",
    f"{TOP}val/images/val_0.JPEG": png(40, 64, 64),
    f"{TOP}val/images/val_1.JPEG": png(50, 64, 64),
    f"{TOP}test/images/test_0.JPEG": png(60, 64, 64),
}


def _load(root: Path) -> RawData:
    return TinyImagenet(TinyImagenetOptions(root=root)).load()


def _check(raw: RawData) -> None:
    check_raw(raw)
    assert raw.spec.class_names == ("goldfish", "Egyptian cat")
    assert raw.spec.image_shape == (3, 64, 64)
    assert raw.train_images[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert raw.train_images[0, :, 0, 0].tolist() == [10, 10, 10]
    assert raw.train_labels.tolist() == [0, 1, 1]
    assert raw.test_images[:, 0, 0, 0].tolist() == [40, 50]
    assert raw.test_labels.tolist() == [1, 0]


@pytest.mark.parametrize("make", [folder, archive])
def test_the_standard_folder_or_its_archive(
    make: Callable[[Path, Mapping[str, bytes]], Path], tmp_path: Path
) -> None:
    _check(_load(make(tmp_path / "tiny.zip", FILES)))


def test_by_default_folder_or_archive_lie_in_the_cache(own_cache: Path) -> None:
    with pytest.raises(InputError, match="tiny-imagenet-200 does not exist") as raised:
        TinyImagenet(TinyImagenetOptions()).load()
    assert "cs231n.stanford.edu" in raised.value.next
    archive(own_cache / "data" / "tiny-imagenet-200.zip", FILES)
    _check(TinyImagenet(TinyImagenetOptions()).load())


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"wnids.txt": None}, r"has no wnids\.txt"),
        ({"words.txt": b"n01\tgoldfish\n"}, r"words\.txt does not name n02"),
        ({"train/n01/images/n01_0.JPEG": None}, "train/n01 has no images"),
        ({"val/val_annotations.txt": None}, r"val_annotations\.txt cannot be read"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn02\nval_1.JPEG\tn09\n"}, r"\(line 2\)"),
        ({"val/images/val_1.JPEG": None}, r"val_1\.JPEG cannot be read"),
        ({"train/n02/images/n02_1.JPEG": b"x"}, r"n02_1\.JPEG cannot be read as an image"),
    ],
)
def test_what_is_missing_or_damaged_is_named(
    tmp_path: Path, changes: dict[str, bytes | None], what: str
) -> None:
    changed = {**FILES, **{TOP + name: content for name, content in changes.items()}}
    folder(tmp_path, {name: content for name, content in changed.items() if content is not None})
    with pytest.raises(InputError, match=what):
        _load(tmp_path)
