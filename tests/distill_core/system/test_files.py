from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from distill_core.system.files import (
    append_line,
    read_tensors,
    remove_parts,
    tensor_bytes,
    write_atomically,
    write_tensors,
)
from registry import EnvironmentFault, InputError


def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "file"
    write_atomically(file, b"first")
    write_atomically(file, b"second")
    assert file.read_bytes() == b"second"
    assert os.listdir(file.parent) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(EnvironmentFault) as raised:
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    assert str(file) in raised.value.what
    assert "No space left on device" in raised.value.what
    assert "MB are free there" in raised.value.expected


def test_an_interruption_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("links", [True, False])
def test_the_old_content_is_kept_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    file, kept = tmp_path / "file", tmp_path / "kept"
    if not links:
        monkeypatch.setattr(os, "link", refuse_links)
    for content in (b"1", b"2", b"3"):
        write_atomically(file, content, keep=kept)
    assert (file.read_bytes(), kept.read_bytes()) == (b"3", b"2")
    assert sorted(os.listdir(tmp_path)) == ["file", "kept"]


def test_a_file_never_lacks_its_name_while_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, kept = tmp_path / "file", tmp_path / "kept"
    write_atomically(file, b"1")
    replace = os.replace

    def watched(old: Path, new: Path) -> None:
        assert file.read_bytes() == b"1"
        replace(old, new)
        assert file.exists()

    monkeypatch.setattr(os, "replace", watched)
    write_atomically(file, b"2", keep=kept)


def test_a_line_after_one_that_a_killed_writer_left_half_written(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    append_line(file, "whole")
    append_line(file, "\u00e4")
    assert file.read_text("utf-8") == "whole\n\u00e4\n"
    file.write_bytes(b"whole\nha")
    append_line(file, "next")
    assert file.read_bytes() == b"whole\nha\nnext\n"


def test_parts_are_removed_be_they_files_or_folders(tmp_path: Path) -> None:
    (tmp_path / ".a.01234567.part").mkdir()
    (tmp_path / ".a.01234567.part" / "file").touch()
    (tmp_path / ".b.01234567.part").touch()
    (tmp_path / "c.part").touch()
    remove_parts(tmp_path)
    remove_parts(tmp_path / "missing")
    assert os.listdir(tmp_path) == ["c.part"]


def refuse_links(*arguments: object) -> None:
    raise PermissionError


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentFault, match="file/inner"):
        write_atomically(tmp_path / "file" / "inner", b"")


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "transposed": base.T,
        "shared": base,
        "trained": torch.nn.Parameter(base),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
        "double": base.double() / 3,
    }
    metadata = {"nested": {"text": "\u00e4", "none": None}, "list": [1, 2.5, True]}
    write_tensors(tmp_path / "file", tensors, metadata)
    read, read_metadata = read_tensors(tmp_path / "file")
    assert read_metadata == metadata
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert (tmp_path / "file").read_bytes() == tensor_bytes(tensors, metadata)
    assert torch.equal(load((tmp_path / "file").read_bytes())["transposed"], base.T)


def test_equal_content_gives_equal_bytes() -> None:
    one, two = torch.ones(3), torch.zeros(2, 2)
    first = tensor_bytes({"x": one, "y": two}, {"p": 1, "q": {"r": 2, "s": 3}})
    assert first == tensor_bytes({"y": two, "x": one}, {"q": {"s": 3, "r": 2}, "p": 1})
    assert first != tensor_bytes({"x": one, "y": two}, {"p": 2})


def test_read_tensors_outlive_their_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"x": torch.ones(1000)}, {})
    tensors, _ = read_tensors(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"")
    assert tensors["x"].sum() == 1000


@given(st.data())
def test_a_truncated_file_is_refused_wherever_it_ends(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        write_tensors(file, {"x": torch.ones(5)}, {"a": 1})
        whole = file.read_bytes()
        file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(InputError, match="cannot be read"):
            read_tensors(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is no safetensors file at all", "cut short, or no safetensors file"),
        (save({"x": torch.ones(2)}), "was not written by distill"),
        (save({"x": torch.ones(2)}, metadata={"distill": "[1]"}), "was not written by distill"),
        (save({"x": torch.ones(2)}, metadata={"distill": "{"}), "cannot be read"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=reason) as raised:
        read_tensors(tmp_path / "file")
    assert str(tmp_path / "file") in raised.value.what


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        read_tensors(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a folder"):
        read_tensors(tmp_path)


def test_what_was_written_is_known_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    sha256 = write_tensors(path, {"a": torch.arange(3)}, {"b": 1})
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
