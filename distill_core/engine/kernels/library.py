"""The compiled library in the cache: whose it is, whether it is whole, and how it is loaded.

A library runs as the user who loads it, so nobody else may have had a hand in it. Folder and file
must be this user's, and writable by nobody else. The file's name has a digest of what it was made
from and of its content. What is loaded is the open file that was checked, not its name, which
somebody could give to another file in between.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distill_core.system.cache import cache_dir
from distill_core.system.cached_tensors import LOG
from distill_core.system.plain_files import CAREFUL

OPEN_FILES = "/proc/self/fd"  # where Linux names the open files of a process
LARGEST_FILE = 64 * 2**20  # bytes; the library has some hundreds of thousands
LONGEST_COMPILATION = 3600  # seconds, and twice what all tries of a compiler may take together
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_READ_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


@contextmanager
def safe_folder() -> Iterator[Path]:
    """Give a folder for libraries that only this user can write to.

    It is `kernels` in the cache. Where that is another user's, or open to others, it is one with
    the number of this user in its name; where that is no better, a temporary one, and the user is
    told.

    Raises:
        OSError: no folder can be made.
    """
    shared = cache_dir() / "kernels"
    for folder in (shared, shared.with_name(f"kernels-{_user()}")):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _opened(folder, _READ_FOLDER) as descriptor:
            if is_ours(os.fstat(descriptor)):
                yield folder
                return
    LOG.warning(
        "cache    %s can be written by other users, who could plant code there: the C kernels are "
        "compiled for this process alone; set DISTILL_CACHE to a folder of your own",
        shared,
    )
    with tempfile.TemporaryDirectory(prefix="distill-kernels-") as private:
        yield Path(private)


def is_ours(found: os.stat_result) -> bool:
    """Say whether a file or folder is this user's, and nobody else may write to it."""
    return found.st_uid == _user() and not found.st_mode & OTHERS_WRITE


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0  # what `stat` says where users have none


def remove_left(folder: Path) -> None:
    """Remove what a compilation that was killed has left in a folder of libraries.

    Whether another process still compiles there, no lock tells on every file system; the age does.
    """
    for path in folder.glob(f"{tempfile.gettempprefix()}*"):
        with suppress(OSError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and time.time() - found.st_mtime > LONGEST_COMPILATION:
                shutil.rmtree(path)


def put(made: Path, folder: Path, key: str) -> None:
    """Give a compiled library its name in the folder."""
    made.chmod(0o700)
    made.replace(folder / _name(key, made.read_bytes()))


def find(folder: Path, key: str, tell: Callable[[Path, str], None]) -> ctypes.CDLL | None:
    """Load the library of a key from a folder; None if there is no sound one.

    Args:
        folder: as `safe_folder` gives it.
        key: digest of what the library is made from.
        tell: called with a file that is not sound, which is removed, and why it is not.
    """
    with _opened(folder, _READ_FOLDER) as opened:
        if not is_ours(os.fstat(opened)):
            return None
        for name in sorted(os.listdir(opened)):
            if name.startswith(f"blocks-{key}-"):
                found = _load(folder / name, opened, key)
                if not isinstance(found, str):
                    return found
                tell(folder / name, found)
                with suppress(OSError):
                    os.unlink(name, dir_fd=opened)
    return None


def _load(path: Path, folder: int, key: str) -> ctypes.CDLL | str:
    """Load a file of an open folder, or say why not."""
    try:
        with _opened(path, os.O_RDONLY | CAREFUL, folder) as descriptor:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE:
                return "is not a library"
            if not is_ours(found):
                return "may have been written by another user"
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read()
            if path.name != _name(key, data):
                return "does not have the digest of what it holds"
            return _loaded(data, descriptor)
    except OSError as error:
        return f"cannot be loaded ({error.strerror or error})"


def _loaded(data: bytes, descriptor: int) -> ctypes.CDLL:
    """Load the open file, or where that has no name, a copy that no other user can reach."""
    if Path(f"{OPEN_FILES}/{descriptor}").exists():
        # A descriptor of its own, never closed: the loader knows libraries by their names, and
        # would take another file under the same number for this one.
        return ctypes.CDLL(f"{OPEN_FILES}/{os.dup(descriptor)}")
    with tempfile.TemporaryDirectory(prefix="distill-kernels-") as private:
        copy = Path(private) / "blocks.so"
        copy.write_bytes(data)
        return ctypes.CDLL(str(copy))


def _name(key: str, data: bytes) -> str:
    return f"blocks-{key}-{hashlib.sha256(key.encode() + data).hexdigest()[:32]}.so"


@contextmanager
def _opened(path: Path, flags: int, folder: int | None = None) -> Iterator[int]:
    """Open a path, or the file of its name in an open folder."""
    descriptor = os.open(path if folder is None else path.name, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
