"""Hugging Face datasets on the disk, and what is wrong with them in a sentence."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distill_core.builtin.datasets import arrow_files, hf
from distill_core.builtin.datasets.arrow_files import Table, open_table
from distill_core.builtin.datasets.hf import Hf
from distill_core.builtin.datasets.options import HfOptions
from distill_core.contracts.data import RawData
from distill_core.system.stamps import stamps_of
from registry import EnvironmentFault, InputError
from tests.distill_core.builtin.datasets.picture_files import png
from tests.distill_core.builtin.datasets.shard_files import (
    IMAGE,
    features,
    levels,
    loaded,
    parquet,
    refusal_of,
    rows,
    saved,
    saved_dict,
    stream,
    table,
)

pytest.importorskip("pyarrow")


def _load(path: Path, **options: Any) -> RawData:
    return loaded(Hf(HfOptions(path=path, **options)))


def _refused(path: Path, match: str, **options: Any) -> InputError:
    return refusal_of(partial(_load, path, **options), match)


def _dict(folder: Path) -> Path:
    return saved_dict(folder, train=table(rows(8)), test=table(rows(4, 20)))


def _parquet(folder: Path) -> Path:
    parquet(folder / "data/train-00000-of-00001-ab12.parquet", table(rows(8)))
    parquet(folder / "data/test-00000-of-00001.parquet", table(rows(4, 20)))
    return folder


def _cache(folder: Path) -> Path:
    stream(folder / "mine-train.arrow", table(rows(8)))
    stream(folder / "mine-test.arrow", table(rows(4, 20)))
    return folder


@pytest.mark.parametrize("make", [_dict, _parquet, _cache])
def test_train_and_test(make: Callable[[Path], Path], tmp_path: Path) -> None:
    raw = _load(make(tmp_path))
    assert (raw.spec.name, raw.spec.class_names) == ("hf", ("cat", "dog"))
    assert (levels(raw.train_images), levels(raw.test_images)) == ([*range(8)], [20, 21, 22, 23])
    assert raw.train_labels.tolist() == [0, 1] * 4


def test_one_split_of_two_files_is_divided(tmp_path: Path) -> None:
    raw = _load(saved(tmp_path, table(rows(10)), table(rows(10, 10))), size=4, fit="squash")
    assert raw.spec.image_shape == (1, 4, 4)
    assert raw.spec.fit == "squash"
    assert sorted(levels(raw.train_images) + levels(raw.test_images)) == [*range(20)]
    assert raw.test_labels.bincount().tolist() == [2, 2]


def test_a_test_part_without_classes_gives_way(tmp_path: Path) -> None:
    secret = {**rows(4, 40), "label": [-1] * 4}
    parts = {"train": table(rows(8)), "test": table(secret), "validation": table(rows(4, 20))}
    raw = _load(saved_dict(tmp_path / "a", **parts))
    assert levels(raw.test_images) == [20, 21, 22, 23]
    secrecy = "the images of {} have no classes, so they are not read."
    assert raw.notes == (secrecy.format("test"),)
    turned = {**parts, "test": parts["validation"], "validation": parts["test"]}
    raw = _load(saved_dict(tmp_path / "c", **{**turned, "more": table(rows(2))}))
    assert raw.notes == ("not read: more.", secrecy.format("validation"))
    raw = _load(saved_dict(tmp_path / "b", train=table(rows(10)), test=table(secret)))
    assert sorted(levels(raw.train_images) + levels(raw.test_images)) == [*range(10)]


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    columns = {**rows(8), "other": rows(8, 50)["image"], "coarse": [0] * 4 + [1] * 4}
    said = {**features(), "other": IMAGE, "coarse": {"names": ["x", "y"], "_type": "ClassLabel"}}
    path = saved(tmp_path, table(columns, said))
    refused = _refused(path, r"2 columns that can be the image \(image, other\)")
    assert "dataset.image=NAME" in refused.next
    refused = _refused(path, r"2 columns that can be the label \(label, coarse\)", image="other")
    assert "dataset.label=NAME" in refused.next
    raw = _load(path, image="other", label="coarse", test_fraction=0.1)
    assert raw.spec.class_names == ("x", "y")
    assert min(levels(raw.train_images)) >= 50
    _refused(path, "has no column neither", image="neither")
    _refused(path, "the column other .* is struct", image="image", label="other")


@pytest.mark.parametrize("values", [["b", "a"] * 4, [True, False] * 4, [1, 0] * 4])
def test_classes_without_a_list(values: list[Any], tmp_path: Path) -> None:
    columns = {"image": rows(8)["image"], "label": values}
    raw = _load(parquet(tmp_path / "x.parquet", table(columns, {})).parent, test_fraction=0.1)
    assert raw.spec.class_names == (("a", "b") if values[0] == "b" else ("0", "1"))
    assert raw.train_labels[:2].tolist() == [1, 0]


def test_images_as_plain_bytes_and_as_files(tmp_path: Path) -> None:
    plain = {"picture": [png(k) for k in range(8)], "label": [0, 1] * 4}
    raw = _load(parquet(tmp_path / "a/x.parquet", table(plain, {})).parent)
    assert len(raw.train_images) == 6
    (tmp_path / "b/pictures").mkdir(parents=True)
    for k in range(8):
        (tmp_path / f"b/pictures/{k}.png").write_bytes(png(k))
    images = [{"bytes": None, "path": f"pictures/{k}.png"} for k in range(8)]
    path = saved(tmp_path / "b", table({"image": images, "label": [0, 1] * 4}))
    assert len(_load(path).train_images) == 6


def test_one_group_of_rows_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Table] = []

    def remembered(path: Path) -> Table:
        opened.append(hf_open(path))
        return opened[-1]

    hf_open = hf.open_table
    monkeypatch.setattr(hf, "open_table", remembered)
    for k in range(3):
        parquet(tmp_path / f"{k}.parquet", table(rows(8, 8 * k)))
    assert len(_load(tmp_path, test_fraction=0.1).train_images) > 20
    assert [table._last[2] is None for table in opened].count(False) == 1
    assert [table._opened is None for table in opened].count(False) == 1


def test_any_number_of_files(tmp_path: Path) -> None:
    """Of which few may be open at once."""
    saved(tmp_path, *[table({**rows(1, k), "label": [k % 2]}) for k in range(40)])
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    now_open = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (now_open + 20, before[1]))
    try:
        raw = _load(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert sorted(levels(raw.train_images) + levels(raw.test_images)) == list(range(40))


def test_more_bytes_in_a_group_of_rows_than_arrow_can_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    def read(self: Table, group: int, name: str) -> Any:
        raise pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes")

    monkeypatch.setattr(Table, "_read", read)
    _refused(_parquet(tmp_path), "more in one column than can be read at once .* smaller groups")


@pytest.mark.parametrize(
    ("image", "match"),
    [
        ({"bytes": None, "path": "/etc/hostname"}, "in another file, /etc/hostname, which is not"),
        ({"bytes": None, "path": "../x.png"}, "in another file, ../x.png"),
        ({"bytes": None, "path": None}, "row 3 cannot be read: it has no image"),
        (None, "row 3 cannot be read: it has no image"),
        ({"bytes": b"text", "path": None}, "row 3 cannot be read as an image"),
    ],
)
def test_wrong_images(image: Any, match: str, tmp_path: Path) -> None:
    columns = rows(8)
    columns["image"][3] = image
    _refused(saved(tmp_path, table(columns)), match)


@pytest.mark.parametrize("label", [-1, 2, None])
def test_wrong_classes(label: int | None, tmp_path: Path) -> None:
    columns = rows(8)
    columns["label"][3] = label
    said = "has no class" if label is None else f"has the class {label}"
    _refused(saved(tmp_path, table(columns)), f"arrow row 3 {said}")


def test_classes_that_are_no_classes(tmp_path: Path) -> None:
    columns = {"image": rows(2)["image"], "label": [0.5, 1.5]}
    _refused(parquet(tmp_path / "x.parquet", table(columns, {})).parent, "column label .* double")


@pytest.mark.parametrize("make", [_dict, _parquet])
def test_cut_files(make: Callable[[Path], Path], tmp_path: Path) -> None:
    make(tmp_path)
    (path,) = [
        file
        for file in tmp_path.rglob("*")
        if "train" in str(file) and file.suffix != ".json" and file.is_file()
    ]
    data = path.read_bytes()
    for length in (len(data) - 8, len(data) // 2, 5, 0):
        path.write_bytes(data[:length])
        _refused(tmp_path, f"{path.name} cannot be read: ")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    _refused(tmp_path, "pointer of Git LFS")


def test_damaged_numbers_in_a_table_do_not_end_the_process(tmp_path: Path) -> None:
    path = saved(tmp_path, table(rows(8))) / "data-00000-of-00001.arrow"
    data = bytearray(path.read_bytes())
    offsets = data.index(len(png(0)).to_bytes(4, "little"))
    data[offsets : offsets + 4] = (2**30).to_bytes(4, "little")
    path.write_bytes(data)
    _refused(tmp_path, "cannot be read")


def test_a_table_is_checked_again_only_if_its_stamp_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_core.system.stamps.UNSETTLED", -(10**18))
    path = stream(tmp_path / "a.arrow", table({**rows(4), "text": ["word"] * 4}))
    before, opened = stamps_of({path.name: path}), open_table(path)
    path.write_bytes(path.read_bytes().replace(b"word", b"w\xff\xfed"))
    with monkeypatch.context() as patch:
        patch.setattr(arrow_files, "stamps_of", lambda files: before)
        assert opened.column("label") == [0, 1, 0, 1]  # nobody has looked at the text
    with pytest.raises(OSError, match="it is damaged"):
        opened.column("label")


def test_missing_and_left_over_shards(tmp_path: Path) -> None:
    saved(tmp_path / "a", table(rows(4)), table(rows(4, 4)))
    stream(tmp_path / "a/data-00002-of-00003.arrow", table(rows(4, 90)))  # of an earlier saving
    assert max(levels(_load(tmp_path / "a").train_images)) < 90
    (tmp_path / "a/data-00001-of-00002.arrow").unlink()
    _refused(tmp_path / "a", "lists data-00001-of-00002.arrow, which is not there")
    parquet(tmp_path / "b/train-00001-of-00002.parquet", table(rows(4)))
    _refused(tmp_path / "b", r"has 1 of the 2 shards train-\*: number 0 is missing")
    for k in (1, 3):
        parquet(tmp_path / f"c/train-{k}-of-3.parquet", table(rows(4, k)))
    _refused(tmp_path / "c", r"has 2 of the 3 shards train-\*: number 2 is missing")
    parquet(tmp_path / "c/train-2-of-3.parquet", table(rows(4, 2)))
    assert len(_load(tmp_path / "c", test_fraction=0.1).train_labels) == 10


def test_files_that_do_not_fit_each_other(tmp_path: Path) -> None:
    other = {"image": rows(4)["image"], "label": ["a", "b"] * 2}
    _refused(saved(tmp_path, table(rows(4)), table(other)), "has string in the column label")
    secret = table({"image": rows(4)["image"]})
    path = saved_dict(tmp_path / "secret", train=table(rows(8)), test=secret)
    refused = _refused(path, "test/data.* has no column label, which")
    assert "held out of the training part" in refused.next
    turned = table(rows(4), features(("dog", "cat")))
    path = saved_dict(tmp_path / "turned", train=table(rows(8)), test=turned)
    _refused(path, "has other class names in the column label than .*train/data")


def test_a_part_without_rows(tmp_path: Path) -> None:
    none = table(rows(4)).slice(0, 0)
    _refused(saved(tmp_path / "a", none), "has no rows to train on")
    parts = {"train": table(rows(8)), "test": none, "validation": table(rows(4, 20))}
    raw = _load(saved_dict(tmp_path / "b", **parts))
    assert levels(raw.test_images) == [20, 21, 22, 23]


@pytest.mark.parametrize(
    ("file", "text", "match"),
    [
        ("state.json", "{", "state.json is not as"),
        ("state.json", "[]", "state.json is not as"),
        ("state.json", "{}", "does not list its files"),
        ("state.json", '{"_data_files": []}', "lists no files"),
        ("state.json", '{"_data_files": [], "_indices_files": [{}]}', "rows were chosen"),
        ("state.json", '{"_data_files": [{"filename": "../x"}]}', "lists ../x, which is not there"),
        ("dataset_dict.json", '{"splits": 3}', "names no splits"),
        ("dataset_dict.json", '{"splits": ["none"]}', "none/state.json is not there"),
        ("dataset_dict.json", '{"splits": ["../beside"]}', "beside/state.json is not there"),
    ],
)
def test_damaged_records(file: str, text: str, match: str, tmp_path: Path) -> None:
    saved(tmp_path / "beside", table(rows(4)))
    path = saved(tmp_path / "here", table(rows(4)))
    (path / file).write_text(text)
    _refused(path, match)


def test_folders_that_are_none(tmp_path: Path) -> None:
    assert "save_to_disk" in _refused(tmp_path, "has no dataset_dict.json").next
    _refused(tmp_path / "none", "does not exist")
    parquet(tmp_path / "plain/train-0.parquet", table(rows(4)))
    _refused(tmp_path / "plain/train-0.parquet", "is not a folder")
    parquet(tmp_path / "other/train-0.parquet", table(rows(4)))
    refused = _refused(tmp_path, "tables in several folders: other, plain")
    assert f"dataset.path={tmp_path}/plain" in refused.next
    saved_dict(tmp_path / "two", val=table(rows(4)), validation=table(rows(4)))
    _refused(tmp_path / "two", "two splits for one part by their names: val, validation")


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _dict(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EnvironmentFault, match="needs the package pyarrow") as refused:
        _load(tmp_path)
    assert "distill-podd[hf]" in refused.value.next


def test_sources_are_the_files_of_the_folder(tmp_path: Path) -> None:
    _dict(tmp_path)
    made = Hf(HfOptions(path=tmp_path, size=8)).sources()
    assert "train/data-00000-of-00001.arrow" in made.files
    assert str(tmp_path) not in made.how
    assert json.loads(made.how.split(" ", 1)[1])["size"] == 8


def test_columns_and_names_that_are_only_said(tmp_path: Path) -> None:
    said = {"picture": IMAGE, "kind": {"names": ["x"], "_type": "ClassLabel"}}
    assert _load(saved(tmp_path / "a", table(rows(8), said))).spec.class_names == ("0", "1")
    said = {**features(), "label": {"names": [None, 3], "_type": "ClassLabel"}}
    assert _load(saved(tmp_path / "b", table(rows(8), said))).spec.class_names == ("0", "1")
    columns = {**rows(2), **{f"other {k}": [0, 1] for k in range(99)}}
    path = saved(tmp_path / "c", table(columns, {"image": IMAGE}))
    assert "other 7 and 91 more" in _refused(path, "no column x", label="x").expected


@pytest.mark.parametrize("where", [3, ["x.png"]])
def test_images_that_are_elsewhere_than_in_a_file(where: Any, tmp_path: Path) -> None:
    import pyarrow as pa

    images = pa.array([{"bytes": None, "path": where}] * 4)
    content = pa.table({"image": images, "label": [0, 1] * 2})
    _refused(parquet(tmp_path / "x.parquet", content).parent, "row 0 cannot be read: it has no")


def test_text_that_is_none(tmp_path: Path) -> None:
    import pyarrow as pa

    text = pa.array([b"a", b"\xff"] * 4).view(pa.string())
    content = pa.table({"image": table(rows(8))["image"], "label": text})
    _refused(parquet(tmp_path / "a/x.parquet", content).parent, r"damaged \('utf-8' codec")
    path = pa.array([b"\xff"] * 8).view(pa.string())
    images = pa.StructArray.from_arrays([pa.nulls(8, pa.binary()), path], ["bytes", "path"])
    content = pa.table({"image": images, "label": [0, 1] * 4})
    _refused(parquet(tmp_path / "b/x.parquet", content).parent, r"row 0 .* damaged \('utf-8' codec")


def test_a_blank_name_is_no_class(tmp_path: Path) -> None:
    content = table({"image": rows(4)["image"], "label": ["a", " ", "b", "a"]}, {})
    _refused(parquet(tmp_path / "x.parquet", content).parent, "row 1 has no class")


def test_files_that_are_listed_twice_or_never_end(tmp_path: Path) -> None:
    saved(tmp_path, table(rows(4)))
    name = {"filename": "data-00000-of-00001.arrow"}
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [name, name]}))
    _refused(tmp_path, "lists a file twice")
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [name]}))
    (tmp_path / name["filename"]).unlink()
    (tmp_path / name["filename"]).symlink_to("/dev/zero")
    _refused(tmp_path, "it is not a regular file")
