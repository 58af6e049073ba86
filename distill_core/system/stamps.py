"""What tells whether files are as they were, without reading them again.

The stamp of a file is its size, inode and times. A digest of the content, once made, is known again
by the stamps, unless a file has changed so shortly before that a further change might not show.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

UNSETTLED = 2 * 10**9  # nanoseconds: the coarsest clock of a usual file system


@dataclass(frozen=True)
class Stamps:
    """The stamps of some files.

    Attributes:
        digest: hexadecimal, of names and stamps.
        size: bytes of all files.
        count: files.
        settled: none has changed within the last two seconds.
    """

    digest: str
    size: int
    count: int
    settled: bool


def stamps_of(files: Mapping[str, Path]) -> Stamps:
    """Return the stamps of files and folders; of a folder its name alone counts.

    Args:
        files: by any name.

    Raises:
        OSError: one is not there, or is neither a file nor a folder.
    """
    digest, size, count, newest = hashlib.sha256(), 0, 0, 0
    now = time.time_ns()
    for name in sorted(files):
        found = os.stat(files[name])
        if stat.S_ISDIR(found.st_mode):
            digest.update(f"{name}\0folder\0".encode(errors="surrogateescape"))
            continue
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{files[name]} is not a plain file")
        size, count = size + found.st_size, count + 1
        newest = max(newest, found.st_ctime_ns, found.st_mtime_ns)
        facts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        digest.update(f"{name}\0{facts}\0".encode(errors="surrogateescape"))
    return Stamps(digest.hexdigest(), size, count, newest < now - UNSETTLED)


def content_of(files: Mapping[str, Path]) -> str:
    """Return the SHA-256 of names and content, the same wherever the files lie.

    Raises:
        OSError: one cannot be read.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        if files[name].is_dir():
            digest.update(f"{name}\0folder\0".encode(errors="surrogateescape"))
            continue
        digest.update(f"{name}\0".encode(errors="surrogateescape"))
        digest.update(bytes.fromhex(file_digest(files[name])))
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
