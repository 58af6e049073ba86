"""Opening a folder or a .zip archive as a tree of files.

An archive is read in place, never unpacked. What operating systems leave behind (dotfiles,
`__MACOSX`, `Thumbs.db`, thumbnails in `@eaDir`, ...) is not listed.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from distill_core.builtin.datasets.plain_files import check_size, read_plain
from distill_core.builtin.datasets.tree import READ_ERRORS, FileTree
from distill_core.plugin import InputError, at_home, shown

DEEPEST = 32  # folders in folders
MOST_LINKS = 32  # ways to one folder
UNIX = 3  # the system that a member of an archive was written on
LEFT_BEHIND = {
    *("__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir", "lost+found"),
    *("$RECYCLE.BIN", "System Volume Information"),
}
_Folder = tuple[int, int]  # device and inode


@contextmanager
def open_tree(path: Path, *, next: str) -> Iterator[FileTree]:
    """Open a folder or a .zip archive for reading.

    Args:
        path: the folder or archive; "~" is the home folder.
        next: what the user should do if it is missing.

    Raises:
        InputError: it is missing, or neither a folder nor an archive.
    """
    path = at_home(path, "the path of the dataset")
    if path.is_dir():
        yield _folder(path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist.", expected="a folder or a .zip archive.", next=next
        ) from None
    except (*READ_ERRORS, ValueError) as error:
        raise InputError(
            f"{path} cannot be opened: {error}.",
            expected="a folder or a complete .zip archive.",
            next="check the path, or download the archive again.",
        ) from None
    with archive:
        yield _archive(path, archive)


def files_to_read(path: Path, *, next: str) -> dict[str, Path]:
    """Return all that reading a folder or an archive looks at, by names relative to it.

    Args:
        path: as of `open_tree`.
        next: likewise.

    Raises:
        InputError: it is missing, or cannot be listed.
    """
    plain = at_home(path, "the path of the dataset")
    if not plain.is_dir():
        return {"archive": plain}
    with open_tree(path, next=next) as tree:
        return {name: plain / name for name in (*tree.files, *tree.folders)}


def _folder(path: Path) -> FileTree:
    files: list[str] = []
    folders: list[str] = []
    hidden: list[str] = []
    ways: Counter[_Folder] = Counter()

    def walk(folder: Path, start: str, around: frozenset[_Folder]) -> None:
        """List a folder whose files begin with `start`; `around` are the folders that it is in."""
        found = folder.stat()
        this = found.st_dev, found.st_ino
        if this in around:
            return  # links may lead around in circles
        ways[this] += 1
        if ways[this] > MOST_LINKS:
            raise InputError(
                f"{folder} is reached by more than {MOST_LINKS} links.",
                expected="a folder in which links do not multiply.",
                next="remove links, or copy what is needed into a folder of its own.",
            )
        _check_depth(path, start)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            if not _is_wanted(entry.name):
                if entry.name.startswith(".") and _is_folder(entry):
                    hidden.append(start + entry.name)
                continue
            if _is_folder(entry):
                folders.append(start + entry.name)
                walk(folder / entry.name, f"{start}{entry.name}/", around | {this})
            elif entry.is_symlink() and not Path(entry).exists():
                raise InputError(  # a class, perhaps, of a disk that is not mounted
                    f"{folder / entry.name} is a link to {os.readlink(entry)}, which is not there.",
                    expected="links that lead to a file or a folder.",
                    next="restore what it leads to, or remove the link.",
                )
            else:
                files.append(start + entry.name)

    try:
        walk(path, "", frozenset())
    except OSError as error:
        raise InputError(
            f"{error.filename or path} cannot be listed: {error.strerror or error}.",
            expected="folders that may be read.",
            next="give permission, or remove it.",
        ) from None
    return FileTree(
        path,
        tuple(sorted(files)),
        tuple(sorted(folders)),
        lambda f: read_plain(path / f),
        tuple(sorted(hidden)),
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself


def _check_depth(path: Path, name: str) -> None:
    if name.count("/") > DEEPEST:
        raise InputError(
            f"{path} has folders in folders, more than {DEEPEST} deep: {name[:60]}...",
            expected="at most a few.",
            next="check the path, or make the archive anew.",
        )


def _archive(path: Path, archive: zipfile.ZipFile) -> FileTree:
    members: dict[str, str] = {}  # as stored, by the path that is shown
    folders, hidden = set(), set()
    for member in archive.infolist():
        # Some writers for Windows separate folders by backslashes, in all places or in some;
        # others begin with "./".
        name, plain = member.filename, member.filename.replace("\\", "/")
        parts = [part for part in plain.rstrip("/").split("/") if part not in {"", "."}]
        wanted = [*takewhile(_is_wanted, parts)]
        left = parts[len(wanted) :]
        in_folder = len(left) > 1 or plain.endswith("/")
        if left and in_folder and left[0][0] == "." and left[0] != "..":
            hidden.add("/".join([*wanted, left[0]]))
        if left or not parts:
            continue
        _check_depth(path, plain)
        _check_separators(path, member)
        file = "/".join(parts)
        if plain.endswith("/"):
            folders.add(file)
        elif members.setdefault(file, name) != name:
            raise InputError(
                f"{path} has two members for {shown(file)}: {shown(members[file])} and "
                f"{shown(name)}.",
                expected="one file for each name; / and \\ both separate folders.",
                next="make the archive anew, with one of them.",
            )
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))

    def read(file: str) -> bytes:
        size = archive.getinfo(members[file]).file_size
        check_size(size)
        with archive.open(members[file]) as opened:
            return opened.read(size)  # no more is unpacked than was declared

    return FileTree(
        path, tuple(sorted(members)), tuple(sorted(folders)), read, tuple(sorted(hidden))
    )


def _check_separators(path: Path, member: zipfile.ZipInfo) -> None:
    """Refuse a name with both separators from Unix, where a backslash can be part of a name."""
    name = member.filename
    if "\\" in name and "/" in name and member.create_system == UNIX:
        raise InputError(
            f"{path} has a member with / and \\ in its name: {shown(name)}.",
            expected="folders separated by one of them, so that it is sure where a class ends.",
            next="make the archive anew, or unpack it and pass -o dataset.path=FOLDER.",
        )


def _is_wanted(name: str) -> bool:
    return name[:1] not in {"", "."} and name not in LEFT_BEHIND
