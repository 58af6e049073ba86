from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill_core.system import plain_files
from distill_core.system.files import append_line
from distill_core.system.plain_files import (
    HOLLOW,
    LINE,
    check_folder,
    check_plain,
    lines_of,
    open_plain,
    open_to_write,
    read_named,
    read_plain,
)
from registry import InputError

SECRET = b"a stranger's secret"


def bind(path: Path) -> None:
    """A socket, whose path may be too long for it."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def outside(path: Path) -> Path:
    secret = path.with_name("outside")
    secret.write_bytes(SECRET)
    return secret


# What may lie under the name of a file, and how it is named.
STRANGE: dict[str, Callable[[Path], object]] = {
    "a link to": lambda path: path.symlink_to(outside(path)),
    "a link to '/dev/zero'": lambda path: path.symlink_to("/dev/zero"),
    "a link to 'nowhere'": lambda path: path.symlink_to("nowhere"),
    "a link to 'file'": lambda path: path.symlink_to("file"),  # itself
    "a pipe": os.mkfifo,
    "a socket": bind,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize(
    "through",
    [read_plain, check_plain, open_to_write, lambda path: append_line(path, "x"),
     lambda path: list(lines_of(path))],
    ids=["read", "check", "open to write", "append", "lines"],
)  # fmt: skip
def test_what_is_no_plain_file_is_neither_read_nor_written(
    what: str, through: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    STRANGE[what](path)
    with pytest.raises(InputError, match="file is ") as caught:
        through(path)
    assert what in caught.value.what
    assert ("cp -rL" in caught.value.next) == ("link" in what)
    assert not (tmp_path / "outside").exists() or (tmp_path / "outside").read_bytes() == SECRET
    assert not (tmp_path / "nowhere").exists()


def test_devices_are_not_opened() -> None:
    with pytest.raises(InputError, match="is a device"):
        read_plain(Path("/dev/null"))


def test_a_folder_that_is_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name, what in (("file", "is a file"), ("link", "is a link")):
        with pytest.raises(InputError, match=what):
            check_folder(tmp_path / name)
    assert check_folder(tmp_path / "new") == tmp_path / "new"
    assert check_folder(tmp_path) == tmp_path


def test_a_linked_directory_around_the_file_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"whole")
    (tmp_path / "link").symlink_to("real")
    assert read_plain(tmp_path / "link" / "file") == b"whole"


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_plain(path, 5) == b"12345"
    with pytest.raises(InputError, match="too many"):
        read_plain(path, 4)


def test_holes_are_no_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"head")
    os.truncate(path, HOLLOW)
    with open_plain(path) as file:
        assert file.read(4) == b"head"
    os.truncate(path, 2**40)
    with pytest.raises(InputError, match="the rest are holes"), open_plain(path):
        raise AssertionError


def test_a_file_system_that_counts_no_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fstat = tmp_path / "file", os.fstat

    def uncounted(descriptor: int) -> object:
        found = fstat(descriptor)
        return SimpleNamespace(
            st_mode=found.st_mode, st_size=found.st_size, st_nlink=found.st_nlink, st_blocks=0
        )

    monkeypatch.setattr(plain_files, "HOLLOW", 2**16)
    path.write_bytes(b"0123" * 2**16)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", uncounted)
        with open_plain(path) as file:
            assert file.read(4) == b"0123"
        os.truncate(path, 2**30)
        with pytest.raises(InputError, match=r"0\.3 MB lie on the disk"), open_plain(path):
            raise AssertionError


@pytest.mark.parametrize("write", [open_to_write, lambda path: append_line(path, "x")])
def test_a_file_with_two_names_is_not_changed_in_place(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "thesis").write_bytes(b"precious")
    os.link(tmp_path / "thesis", tmp_path / "file")
    assert read_plain(tmp_path / "file") == b"precious"  # as backups made of links are read
    with pytest.raises(InputError, match="hard link"):
        write(tmp_path / "file")
    assert (tmp_path / "thesis").read_bytes() == b"precious"


def test_what_is_missing_is_made_by_writing_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        read_plain(path)
    assert list(lines_of(path)) == []
    append_line(path, "1")
    append_line(path, "2\r\n3")
    assert list(lines_of(path)) == [b"1", b"2", b"3"]


def test_a_line_that_no_run_writes_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1\n" + 3 * LINE * b"x" + b"\n2\n" + LINE * b"\0")
    assert list(lines_of(path)) == [b"1", b"2"]


def test_what_the_user_names_may_be_a_link_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_named(tmp_path / "link") == b"12345"
    ends = os.pipe()
    os.write(ends[1], b"piped")
    os.close(ends[1])
    assert read_named(Path(f"/dev/fd/{ends[0]}")) == b"piped"
    os.close(ends[0])
    with pytest.raises(InputError, match="too many"):
        read_named(Path("/dev/zero"), 1000)
