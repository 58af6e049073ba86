from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from distill_core.builtin.datasets.open_tree import open_tree
from distill_core.builtin.datasets.plain_files import LARGEST_FILE
from distill_core.builtin.datasets.tree import FileTree
from registry import InputError
from tests.distill_core.builtin.datasets.picture_files import archive, folder

FILES = {
    "top/b/two.txt": b"2",
    "top/a/one.txt": b"1",
    "top/a/.hidden": b"",
    "top/.git/config": b"",
    "__MACOSX/top/a/._one.txt": b"",
    "top/a/Thumbs.db": b"",
    "top/desktop.ini": b"",
}


@pytest.fixture(params=["folder", "zip"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folder":
        (tmp_path / "data/top/empty").mkdir(parents=True)
        return folder(tmp_path / "data", FILES)
    return archive(tmp_path / "data.zip", {**FILES, "top/empty/": b""})


def test_a_folder_and_an_archive_look_alike(path: Path) -> None:
    with open_tree(path, next="look.") as tree:
        assert tree.files == ("top/a/one.txt", "top/b/two.txt")
        assert tree.folders == ("top", "top/a", "top/b", "top/empty")
        assert tree.top_folders() == ["top"]
        assert tree.read("top/a/one.txt") == b"1"
        assert tree.where("top/a") == str(path / "top" / "a")


def test_a_part_reads_its_own_files(path: Path) -> None:
    with open_tree(path, next="look.") as tree:
        part = tree.inside("top").inside("b")
        assert part.files == ("two.txt",)
        assert part.read("two.txt") == b"2"
        assert part.where("two.txt") == str(path / "top/b/two.txt")


def test_a_part_is_found_by_a_file_it_holds(path: Path) -> None:
    with open_tree(path, next="look.") as tree:
        part = tree.inside("top").holding("two.txt", next="look elsewhere.")
        assert part.path == path / "top/b"
        assert part.holding("two.txt", next="") is part
        with pytest.raises(InputError, match=r"has no three\.txt") as raised:
            tree.holding("three.txt", next="look elsewhere.")
    assert raised.value.next == "look elsewhere."


def test_a_missing_file_is_named(path: Path) -> None:
    with (
        open_tree(path, next="look.") as tree,
        pytest.raises(InputError, match="top/c cannot be read"),
    ):
        tree.read("top/c")


def test_text_is_read_by_lines(tmp_path: Path) -> None:
    folder(tmp_path, {"list": b"one\r\n\n two\n", "binary": b"\xff\xfe\x00"})
    with open_tree(tmp_path, next="look.") as tree:
        assert tree.text("list") == ["one", " two"]
        with pytest.raises(InputError, match="binary is not text"):
            tree.text("binary")


def _refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as raised, open_tree(path, next="look."):
        pass
    assert isinstance(raised.value, InputError)
    return raised.value


def test_what_is_neither_folder_nor_archive_is_refused(tmp_path: Path) -> None:
    missing = _refusal(tmp_path / "nowhere.zip")
    assert missing.what == f"{tmp_path / 'nowhere.zip'} does not exist."
    assert missing.expected == "a folder or a .zip archive."
    (tmp_path / "text.zip").write_text("no archive")
    assert (
        "text.zip cannot be opened: File is not a zip file" in _refusal(tmp_path / "text.zip").what
    )
    whole = archive(tmp_path / "whole.zip", {"a/b": b"content" * 100}).read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    assert "half.zip cannot be opened" in _refusal(tmp_path / "half.zip").what


def test_a_damaged_member_of_an_archive_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "data.zip", {"a/b": b"content" * 100})
    path.write_bytes(path.read_bytes().replace(b"content", b"CONTENT", 1))
    with (
        open_tree(path, next="look.") as tree,
        pytest.raises(InputError, match=r"data.zip/a/b cannot be read"),
    ):
        tree.read("a/b")


def test_the_home_folder_may_be_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder(tmp_path / "pictures", {"a": b"x"})
    with open_tree(Path("~/pictures"), next="look.") as tree:
        assert isinstance(tree, FileTree)
        assert tree.read("a") == b"x"


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    folder(tmp_path, {"a/x.txt": b"one"})
    for name in ("up", "again", "oncemore"):
        (tmp_path / "a" / name).symlink_to(tmp_path, target_is_directory=True)
    with open_tree(tmp_path, next="look.") as tree:
        assert [file for file in tree.files if file.endswith("x.txt")] == ["a/x.txt"]


def test_a_folder_may_be_linked_from_several_places(tmp_path: Path) -> None:
    folder(tmp_path, {"val/a/x.txt": b"one", "all/b/y.txt": b"two"})
    (tmp_path / "test").symlink_to("val", target_is_directory=True)
    (tmp_path / "val" / "b").symlink_to(tmp_path / "all" / "b", target_is_directory=True)
    with open_tree(tmp_path, next="look.") as tree:
        assert tree.files == (
            *("all/b/y.txt", "test/a/x.txt", "test/b/y.txt"),
            *("val/a/x.txt", "val/b/y.txt"),
        )
        assert tree.read("test/b/y.txt") == b"two"


def test_links_that_multiply_are_refused(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    for k in range(7):  # 2^6 ways to the last but one
        (tmp_path / str(k)).mkdir()
        for name in "ab":
            (tmp_path / str(k) / name).symlink_to(tmp_path / str(k + 1))
    with (
        pytest.raises(InputError, match="more than 32 links"),
        open_tree(tmp_path / "0", next="look."),
    ):
        pass


@pytest.mark.parametrize("goal", ["gone", "b"])  # not there, and itself
def test_a_link_to_nothing_is_refused_since_it_may_be_a_class(tmp_path: Path, goal: str) -> None:
    folder(tmp_path, {"a/x.txt": b"one"})
    (tmp_path / "b").symlink_to(goal, target_is_directory=True)
    with (
        pytest.raises(InputError, match=rf"b is a link to {goal}, which is not there"),
        open_tree(tmp_path, next="look."),
    ):
        pass


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, {"a/closed/x.txt": b"one"})
    scan = os.scandir

    def closed(path: Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with (
        pytest.raises(InputError, match=r"a/closed cannot be listed: Permission denied"),
        open_tree(tmp_path, next="look."),
    ):
        pass


@pytest.mark.parametrize("written", ["data\\cat\\x.txt", "./data/cat/x.txt", "/data//cat/x.txt"])
def test_archives_of_other_writers_are_read(tmp_path: Path, written: str) -> None:
    path = archive(tmp_path / "data.zip", {written: b"one", "data\\dog\\": b""})
    with open_tree(path, next="look.") as tree:
        assert tree.files == ("data/cat/x.txt",)
        assert tree.folders == ("data", "data/cat", "data/dog")
        assert tree.read("data/cat/x.txt") == b"one"


def test_a_backslash_beside_slashes_is_refused_where_it_can_be_part_of_a_name(
    tmp_path: Path,
) -> None:
    refused = _refusal(archive(tmp_path / "data.zip", {"data/a\\b/x.txt": b"one"}))
    assert "a member with / and \\ in its name: data/a\\b/x.txt" in refused.what
    with open_tree(
        archive(tmp_path / "data.zip", {"__MACOSX/a\\b": b"", "a\\b": b""}), next=""
    ) as tree:
        assert tree.files == ("a/b",)


def test_a_link_to_a_device_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    with (
        open_tree(tmp_path, next="look.") as tree,
        pytest.raises(InputError, match="not a regular file"),
    ):
        tree.read("endless.png")


def test_a_small_archive_cannot_unpack_into_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
        bomb.open("zeros.png", "w", force_zip64=True) as file,
    ):
        for _ in range(LARGEST_FILE // 2**20 + 1):
            file.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    with (
        open_tree(path, next="look.") as tree,
        pytest.raises(InputError, match="257 MiB, more than 256"),
    ):
        tree.read("zeros.png")


def test_a_member_that_is_larger_than_it_says_is_refused(tmp_path: Path) -> None:
    content, said = bytes(2**22), 100
    path = archive(tmp_path / "liar.zip", {"zeros.png": content})
    data = bytearray(path.read_bytes())
    where = data.rindex(b"PK\x01\x02") + 24  # the size in the directory at the end
    data[where : where + 4] = said.to_bytes(4, "little")
    path.write_bytes(data)
    with (
        open_tree(path, next="look.") as tree,
        pytest.raises(InputError, match=r"zeros\.png cannot be read"),
    ):
        tree.read("zeros.png")


def test_folders_in_folders_without_end_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "deep.zip", {"a/" * 30_000 + "x.png": b""})
    with pytest.raises(InputError, match="more than 32 deep"), open_tree(path, next="look."):
        pass


def test_separators_may_be_mixed_in_an_archive_from_windows(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as made:
        for name in ("t\\cat/1", "t/cat\\2", "t/dog/3", "t\\dog\\4", "t\\emu\\"):
            member = zipfile.ZipInfo(name)
            member.create_system = 0
            made.writestr(member, name[-1:])
    with open_tree(path, next="look.") as tree:
        assert tree.files == ("t/cat/1", "t/cat/2", "t/dog/3", "t/dog/4")
        assert tree.inside("t").top_folders() == ["cat", "dog", "emu"]
        assert [tree.read(file) for file in tree.files] == [b"1", b"2", b"3", b"4"]


def test_separators_may_differ_between_members(tmp_path: Path) -> None:
    files = {"t/cat/1": b"1", "t\\cat\\2": b"2", "t\\dog\\3": b"3"}
    with open_tree(archive(tmp_path / "data.zip", files), next="look.") as tree:
        assert tree.files == ("t/cat/1", "t/cat/2", "t/dog/3")


@pytest.mark.parametrize("twin", ["a\\b.png", "./a/b.png"])
def test_two_members_of_one_name_are_refused(tmp_path: Path, twin: str) -> None:
    refused = _refusal(archive(tmp_path / "data.zip", {"a/b.png": b"1", twin: b"2"}))
    assert f"two members for a/b.png: a/b.png and {twin}" in refused.what
