"""Plain files that are not too large: no devices, pipes, or texts that stand for another file."""

from __future__ import annotations

import stat
from pathlib import Path

from distill_core.plugin import InputError

LARGEST_FILE = 256 * 2**20  # bytes; an archive of a few kilobytes can hold a file of gigabytes
POINTER = b"version https://git-lfs"


def read_plain(path: Path) -> bytes:
    """Read a file.

    Raises:
        OSError: it is a device or a pipe, larger than `LARGEST_FILE`, or cannot be read.
    """
    check_size(_size(path))
    return path.read_bytes()


def check_size(size: int) -> None:
    """Refuse a file that is too large to be a picture or a list.

    Raises:
        OSError: it has more than `LARGEST_FILE` bytes.
    """
    if size > LARGEST_FILE:
        raise OSError(f"it has {size / 2**20:,.0f} MiB, more than {LARGEST_FILE // 2**20}")


def check_content(path: Path) -> None:
    """Refuse a device or a pipe, and the small text that stands for a large file in a repository.

    Raises:
        InputError: it is such a text.
        OSError: it is no regular file, or cannot be read.
    """
    _size(path)
    with open(path, "rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise InputError(
                f"{path} is a pointer of Git LFS, not the file itself.",
                expected="the file.",
                next="fetch it, with `git lfs pull` in that folder.",
            )


def _size(path: Path) -> int:
    """The bytes of a regular file; reading another kind may never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a regular file")
    return found.st_size
