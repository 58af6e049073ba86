"""Images in .tar shards, and what is wrong with them in a sentence."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distill_core.builtin.datasets.options import WebDatasetOptions
from distill_core.builtin.datasets.webdataset import WebDataset
from distill_core.contracts.data import RawData
from registry import InputError
from tests.distill_core.builtin.datasets.picture_files import png
from tests.distill_core.builtin.datasets.shard_files import items, levels, loaded, refusal_of, tar


def _load(path: Path, **options: Any) -> RawData:
    return loaded(WebDataset(WebDatasetOptions(path=path, **options)))


def _refused(path: Path, match: str, **options: Any) -> InputError:
    return refusal_of(partial(_load, path, **options), match)


def _member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def _negative() -> bytes:
    """A head of a size of -512: who believes it reads the same head again and again."""
    head = bytearray(tarfile.TarInfo(".x").tobuf(tarfile.GNU_FORMAT))
    head[124:136] = (-512).to_bytes(12, signed=True)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@pytest.mark.parametrize(
    ("train", "test"),
    [("set-train-{}.tar", "set-val-0.tar"), ("train/{}.tar", "test/0.tar")],
)
def test_shards_of_two_parts(tmp_path: Path, train: str, test: str) -> None:
    tar(tmp_path / train.format(1), items(2, 2))
    tar(tmp_path / train.format(0), items(2))
    tar(tmp_path / test, items(4, 10))
    raw = _load(tmp_path)
    assert (raw.spec.name, raw.spec.class_names) == ("webdataset", ("0", "1"))
    assert raw.spec.image_shape == (1, 8, 8)
    assert (levels(raw.train_images), levels(raw.test_images)) == ([0, 1, 2, 3], [10, 11, 12, 13])
    assert raw.train_labels.tolist() == [0, 1, 0, 1]


def test_one_shard_is_divided(tmp_path: Path) -> None:
    path = tar(tmp_path / "all.tar", items(20, names=("cat", "dog")))
    raw = _load(path, test_fraction=0.3, size=4)
    assert raw.spec.class_names == ("cat", "dog")
    assert raw.spec.image_shape == (1, 4, 4)
    assert (len(raw.train_labels), raw.test_labels.bincount().tolist()) == (14, [3, 3])


def test_classes_in_json_and_names_beside(tmp_path: Path) -> None:
    members = {f"./a/{k}.jpg": png(k) for k in range(4)}
    members |= {
        f"./a/{k}.json": json.dumps({"label": k % 2, "of": {"kind": "uv"[k % 2]}}).encode()
        for k in range(4)
    }
    tar(tmp_path / "0.tar", members)
    (tmp_path / "classnames.txt").write_text("tern\ntern\n")
    assert _load(tmp_path).spec.class_names == ("tern (0)", "tern (1)")
    assert _load(tmp_path, label="json.of.kind").spec.class_names == ("u", "v")
    (tmp_path / "mine.txt").write_text("crow\nkite\n")
    assert _load(tmp_path, names=tmp_path / "mine.txt").spec.class_names == ("crow", "kite")
    refused = _refused(tmp_path, "a/0.json has no kind", label="json.kind")
    assert "json.NAME" in refused.next


def test_what_belongs_to_no_image_is_said(tmp_path: Path) -> None:
    members = {**items(4), "0009.txt": "x", "._0000.png": b"", "README": b"", "meta.json": "{}"}
    tar(tmp_path / "0.tar", members)
    (note,) = _load(tmp_path).notes
    assert "members without an image of their name are not read: 1 .txt, 1 .json" in note


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"../../x.png": png(1)}, r"whose name leads out of it: \.\./\.\./x.png"),
        ({"/x.png": png(1)}, "whose name leads out of it: /x.png"),
        ({"x.png": _member("x.png", tarfile.SYMTYPE)}, "no plain file: x.png"),
        ({"x.png": _member("x.png", tarfile.LNKTYPE)}, "no plain file: x.png"),
        ({"x.png": _member("x.png", tarfile.FIFOTYPE)}, "no plain file: x.png"),
        ({"x.png": png(1)}, "0.tar/x has no class: no json, only png"),
        ({"x.png": png(1), "x.jpg": png(1), "x.cls": "0"}, "x has several images: png, jpg"),
        ({"x.png": png(1), "./x.png": png(1), "x.cls": "0"}, "has two members x.png"),
        ({"x.png": png(1), "x.cls": "cat"}, "by number, as at .*, and by name, as at 0.tar/x.png"),
        ({"x.png": png(1), "x.cls": "-1"}, "0.tar/x.png has the class -1"),
        ({"x.png": png(1), "x.cls": " "}, "x.cls is empty"),
        ({"x.png": png(1), "x.cls": b"\xff"}, "x.cls cannot be read"),
        ({"x.png": png(1), "x.cls": "99999999999"}, "largest class number in .* is 99999999999"),
        ({"x.png": png(1), "x.cls": "9" * 5000}, "x.cls has a number of 5000 digits"),
        ({"x.png": png(1), "x.json": "{"}, "x.json cannot be read"),
        ({"x.png": png(1), "x.json": '{"label": [1]}'}, r"x.json has \[1\] as label"),
        ({"x.png": png(1), "x.json": '{"label": true}'}, "x.json has True as label"),
        ({"x.png": b"text", "x.cls": "0"}, "0.tar/x.png cannot be read as an image"),
        ({"x.png": png(1), "x.cls": "5"}, "no training images of: 2, 3, 4"),
    ],
)
def test_wrong_members(tmp_path: Path, members: dict[str, Any], match: str) -> None:
    tar(tmp_path / "0.tar", {**items(4), **members})
    _refused(tmp_path, match)


def test_an_ending_chooses_the_image(tmp_path: Path) -> None:
    members = {
        f"{k}.{side}.png": png(k + more)
        for k in range(4)
        for side, more in (("left", 0), ("right", 100))
    }
    tar(tmp_path / "0.tar", {**members, **{f"{k}.cls": str(k % 2) for k in range(4)}})
    refused = _refused(tmp_path, "several images: left.png, right.png")
    assert "dataset.image=left.png" in refused.next
    raw = _load(tmp_path, image="right.png", test_fraction=0.1)
    assert min(levels(raw.train_images)) >= 100
    _refused(tmp_path, "has no .jpg", image="jpg")


def test_a_number_past_the_names(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", items(4))
    names = tmp_path / "names"
    names.write_text("only\n")
    _refused(tmp_path, "0001.png has the class 1", names=names)
    names.write_text("one\n\ntwo\n")
    _refused(tmp_path, "has no name in line 2", names=names)
    names.write_bytes(b"\xff\xfe")
    _refused(tmp_path, "it is not UTF-8", names=names)


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_cut_shard(tmp_path: Path, part: float) -> None:
    path = tar(tmp_path / "0.tar", items(40))
    data = path.read_bytes()
    used = 40 * 4 * 512  # heads and contents
    for length in (
        int(part * used),
        int(part * 80) * 1024,
        used,
    ):  # in a member, between, at the end
        path.write_bytes(data[:length])
        _refused(tmp_path, "0.tar cannot be read: (it is cut or damaged|unexpected end)")


def test_a_damaged_head_does_not_end_a_shard_early(tmp_path: Path) -> None:
    path = tar(tmp_path / "0.tar", items(8))
    data = bytearray(path.read_bytes())
    data[8 * 1024 : 8 * 1024 + 20] = b"\x07" * 20
    path.write_bytes(data)
    _refused(tmp_path, "cut or damaged at byte 8,192")
    data = bytearray(tar(path, items(4)).read_bytes()[: 8 * 1024] + _negative() + bytes(10240))
    path.write_bytes(data)
    _refused(tmp_path, "it is damaged at byte 8,192")
    path.write_bytes(tar(path, items(4)).read_bytes() * 2)
    _refused(tmp_path, "or another archive follows")


def test_no_shards_compressed_shards_and_pointers(tmp_path: Path) -> None:
    assert "dataset.path" in _refused(tmp_path / "none", "does not exist").next
    _refused(tmp_path, "has no .tar")
    (tmp_path / "0.tar.gz").write_bytes(gzip.compress(b"x"))
    assert "gunzip" in _refused(tmp_path, "only compressed ones").next
    (tmp_path / "0.tar").write_bytes(gzip.compress(bytes(2000)))
    _refused(tmp_path, "0.tar cannot be read")
    (tmp_path / "0.tar").write_bytes(b"")
    _refused(tmp_path, "0.tar cannot be read: empty file")
    (tmp_path / "0.tar").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "git lfs pull" in _refused(tmp_path, "pointer of Git LFS").next


def test_parts_that_cannot_be_told(tmp_path: Path) -> None:
    tar(tmp_path / "train_test.tar", items(4))
    _refused(tmp_path, "can be of two parts by its name: test and train")
    (tmp_path / "train_test.tar").rename(tmp_path / "test.tar")
    tar(tmp_path / "extra.tar", items(4))
    _refused(tmp_path, "no part for training, but has: files of no part, test")
    tar(tmp_path / "train-00001-of-00003.tar", items(4))
    _refused(tmp_path, r"has 1 of the 3 shards train-\*: number 0 is missing")


def test_sources_change_with_the_shards_and_the_names(tmp_path: Path) -> None:
    path, names = tar(tmp_path / "0.tar", items(4)), tmp_path / "names"
    made = WebDataset(WebDatasetOptions(path=path, names=names, size=8)).sources()
    assert sorted(made.files.values()) == [path, names]
    assert str(tmp_path) not in made.how


def _head(kind: bytes, body: bytes) -> bytes:
    """A head that speaks of the next member, as long names have one."""
    info = tarfile.TarInfo("head")
    info.type, info.size = kind, len(body)
    return info.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512)


@pytest.mark.parametrize(
    "heads",
    [
        _head(tarfile.GNUTYPE_LONGNAME, b"x\0") * 2000,
        _head(tarfile.XHDTYPE, b"13 path=abcd\n") * 2000,
        _head(tarfile.XHDTYPE, b"29 size=99999999999999999999\n"),
        _head(tarfile.XHDTYPE, b"9" * 5000 + b" path=x\n"),
        _head(tarfile.XHDTYPE, b"24 GNU.sparse.map=0,1,x\n"),
    ],
    ids=["names of names", "heads of heads", "size", "length", "holes"],
)
def test_heads_that_make_no_sense(tmp_path: Path, heads: bytes) -> None:
    path = tar(tmp_path / "0.tar", items(4))
    path.write_bytes(heads + path.read_bytes())
    _refused(tmp_path, "0.tar cannot be read: the head of a member makes no sense")


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "0.tar").symlink_to("/dev/zero")
    _refused(tmp_path, "0.tar cannot be read: it is not a regular file")
    _refused(Path("/dev/null"), "/dev/null is no file")
    tar(tmp_path / "a/0.tar", items(4))
    os.mkfifo(tmp_path / "names")
    _refused(tmp_path / "a", "it is not a regular file", names=tmp_path / "names")


def test_sentences_are_short_and_can_be_shown(tmp_path: Path) -> None:
    many = {f"img.{k}.{end}": b"" for k in range(99) for end in ("png", "cls")}
    tar(tmp_path / "0.tar", many)
    _refused(tmp_path, "several images: 0.png, .*, 9.png and 89 more")
    tar(tmp_path / "0.tar", {**items(4), "a\n\x1b[31m.png": b"x", "a\n\x1b[31m.cls": "0"})
    refused = _refused(tmp_path, r"0.tar/a\?\?\[31m.png cannot be read .*: it is of no format")
    assert " at 0x" not in refused.what


def test_class_names_that_look_the_same_or_are_texts(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", items(8, names=("caf\u00e9", "cafe\u0301")))
    assert _load(tmp_path).spec.class_names == ("caf\u00e9",)
    tar(tmp_path / "0.tar", items(8, names=("a", "b" * 2000)))
    _refused(tmp_path, "has a class name of 2,000 characters")
