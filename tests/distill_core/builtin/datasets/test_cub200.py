from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill_core.builtin.datasets.cub200 import Cub200
from distill_core.builtin.datasets.options import Cub200Options
from distill_core.contracts.data import RawData
from distill_core.data.prepare import check_raw
from registry import InputError
from tests.distill_core.builtin.datasets.picture_files import archive, encoded, folder, png

TOP = "CUB_200_2011/"
FILES = {
    f"{TOP}classes.txt": b"1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n",
    f"{TOP}images.txt": b"1 001.Black_footed_Albatross/a.jpg\n2 001.Black_footed_Albatross/b.jpg\n"
    b"3 002.Laysan_Albatross/c.jpg\n4 002.Laysan_Albatross/d.jpg\n",
    f"{TOP}image_class_labels.txt": b"1 1\n2 1\n3 2\n4 2\n",
    f"{TOP}train_test_split.txt": b"1 0\n2 1\n3 1\n4 0\n",
    f"{TOP}images/001.Black_footed_Albatross/a.jpg": png((10, 0, 0), 60, 50),
    f"{TOP}images/001.Black_footed_Albatross/b.jpg": png((20, 0, 0), 50, 60),
    f"{TOP}images/002.Laysan_Albatross/c.jpg": png((30, 0, 0), 40, 40),
    f"{TOP}images/002.Laysan_Albatross/d.jpg": png(40, 64, 32),
    "attributes.txt": b"1 has_bill_shape::curved\n",
}


def _load(root: Path, size: int = 32) -> RawData:
    return Cub200(Cub200Options(root=root, size=size)).load()


@pytest.mark.parametrize("make", [folder, archive])
def test_the_standard_folder_or_its_archive(
    make: Callable[[Path, Mapping[str, bytes]], Path], tmp_path: Path
) -> None:
    raw = _load(make(tmp_path / "cub.zip", FILES))
    check_raw(raw)
    assert raw.spec.class_names == ("Black_footed_Albatross", "Laysan_Albatross")
    assert raw.spec.image_shape == (3, 32, 32)
    assert "color" not in raw.spec.augmentations
    assert raw.train_images[:, 0, 0, 0].tolist() == [20, 30]
    assert raw.train_labels.tolist() == [0, 1]
    assert raw.test_images[:, :, 5, 5].tolist() == [[10, 0, 0], [40, 40, 40]]
    assert raw.test_labels.tolist() == [0, 1]


def test_photos_are_squashed_as_in_the_published_code_or_cut(tmp_path: Path) -> None:
    left_black = np.full((20, 60, 3), 255, dtype=np.uint8)
    left_black[:, :20] = 0
    image = encoded(Image.fromarray(left_black))
    root = folder(tmp_path, {**FILES, f"{TOP}images/002.Laysan_Albatross/c.jpg": image})
    found = {
        fit: Cub200(Cub200Options(root=root, size=20, fit=fit)).load() for fit in ("squash", "crop")
    }
    assert {raw.spec.fit for raw in found.values()} == {"squash", "crop"}
    assert found["squash"].train_images[1, 0, 0, [3, 16]].tolist() == [0, 255]
    assert found["crop"].train_images[1, 0, 0, [3, 16]].tolist() == [255, 255]
    assert Cub200Options().fit == "squash"


def test_the_root_may_be_the_folder_itself_and_the_size_is_free(tmp_path: Path) -> None:
    folder(tmp_path, FILES)
    assert _load(tmp_path / TOP, size=16).train_images.shape == (2, 3, 16, 16)


def test_by_default_it_lies_in_the_cache(own_cache: Path) -> None:
    with pytest.raises(InputError) as raised:
        Cub200(Cub200Options()).load()
    assert raised.value.what == f"{own_cache / 'data' / 'CUB_200_2011'} does not exist."
    assert "-o dataset.root=" in raised.value.next
    folder(own_cache / "data", FILES)
    assert len(Cub200(Cub200Options()).load().train_labels) == 2


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"images.txt": None}, r"has no images\.txt"),
        ({"classes.txt": None}, r"classes\.txt cannot be read"),
        ({"classes.txt": b""}, r"classes\.txt is not as it should be"),
        ({"images.txt": b"1 a.jpg\n2\n"}, r"images\.txt \(line 2\)"),
        ({"train_test_split.txt": b"1 0\n2 1\n"}, r"train_test_split\.txt is not as"),
        ({"image_class_labels.txt": b"1 1\n2 1\n3 2\n4 9\n"}, "has class 9"),
        ({"images/002.Laysan_Albatross/d.jpg": None}, r"d\.jpg cannot be read"),
        ({"images/002.Laysan_Albatross/d.jpg": b"x"}, r"d\.jpg cannot be read as an image"),
    ],
)
def test_what_is_missing_or_damaged_is_named(
    tmp_path: Path, changes: dict[str, bytes | None], what: str
) -> None:
    changed = {**FILES, **{TOP + name: content for name, content in changes.items()}}
    folder(tmp_path, {name: content for name, content in changed.items() if content is not None})
    with pytest.raises(InputError, match=what):
        _load(tmp_path)
