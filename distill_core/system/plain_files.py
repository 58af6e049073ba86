"""Files that strangers may have sent: plain files alone, no links, of bounded size.

A run directory may come from somebody else. A link in it would show or overwrite a file that lies
elsewhere, a pipe or a device would never end, and a file of holes, which takes no space on the
disk, would fill the memory. The folder that the user names may itself be a link, or be reached
through one; only what lies in it is looked at here.

Whoever can write into a directory while a run uses it can still do harm: see
`docs/reliability.md`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from distill_core.system.units import megabytes
from registry import InputError

TEXT = 16 * 2**20  # bytes of a configuration, a manifest, an evaluation: parsed, it takes 20 times
PICTURE = 2**28  # bytes of a picture
LOG, LINE = 2**29, 2**20  # bytes of a file of lines, two million or so, and of a line
# A file larger than this must lie on the disk, at least a sixteenth of it: file systems that
# compress do not reach that with tensors.
HOLLOW, DENSITY = 2**26, 16
# O_NOFOLLOW: no link at the end of the path. O_NONBLOCK: a pipe is opened at once.
CAREFUL = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_plain(path: Path, most: int = TEXT) -> bytes:
    """Read a file of a run directory.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        InputError: it is no plain file, or larger.
    """
    with open_plain(path, most) as file:
        return file.read(most)


@contextlib.contextmanager
def open_plain(path: Path, most: int | None = None) -> Iterator[BufferedReader]:
    """Open a file of a run directory for reading.

    Args:
        path: the file.
        most: bytes that it may have; None: as many as lie on the disk.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        InputError: it is no plain file, larger, or almost all holes.
    """
    with os.fdopen(_open(path, os.O_RDONLY), "rb") as file:
        _check_size(path, file.fileno(), most)
        yield file


def lines_of(path: Path, most: int | None = LOG) -> Iterator[bytes]:
    """Yield the lines of a file that a run appends to, without their ends; none if it is missing.

    Lines of more than a mebibyte, which no run writes, are left out.

    Args:
        path: the file.
        most: bytes that it may have; None, for a run's own file: as many as lie on the disk.

    Raises:
        OSError: it cannot be read.
        InputError: it is no plain file, or too large.
    """
    with contextlib.suppress(FileNotFoundError), open_plain(path, most) as file:
        whole = True
        while part := file.readline(LINE):
            ends = part.endswith(b"\n")
            if whole and (ends or len(part) < LINE):
                yield part.rstrip(b"\r\n")
            whole = ends


def open_to_write(path: Path, *, append: bool = False) -> int:
    """Open a file that is changed in place, for reading and writing; make it if it is missing.

    Args:
        path: the file.
        append: all that is written goes to its end.

    Returns:
        Its descriptor.

    Raises:
        OSError: it cannot be opened.
        InputError: it is no plain file, or has a second name somewhere (a hard link).
    """
    descriptor = _open(path, os.O_RDWR | os.O_CREAT | (os.O_APPEND if append else 0))
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise _led_out(path, "a file with a second name elsewhere (a hard link)")
    return descriptor


def check_plain(path: Path) -> None:
    """Refuse what is there under the name of a file and is none: a link, a folder, a pipe.

    Raises:
        InputError: the message says what it is.
    """
    with contextlib.suppress(FileNotFoundError):
        _check_kind(path, os.lstat(path), stat.S_IFREG)


def check_folder(path: Path) -> Path:
    """Refuse what is there under the name of a folder and is none; return the path.

    Raises:
        InputError: it is a link or a file.
    """
    with contextlib.suppress(FileNotFoundError):
        _check_kind(path, os.lstat(path), stat.S_IFDIR)
    return path


def read_named(path: Path, most: int = TEXT) -> bytes:
    """Read a file that the user named: links and pipes are followed, the size is bounded.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        InputError: it is larger.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _too_large(path, "more", most)
    return data


def path_of(file: BufferedReader, path: Path) -> str:
    """Return a path that opens the very file that is open, for libraries that take paths."""
    held = f"/dev/fd/{file.fileno()}"
    return held if os.path.exists(held) else str(path)


def _open(path: Path, flags: int) -> int:
    """Open a plain file. What is no file is not opened at all: a device may act on that."""
    check_plain(path)
    try:
        descriptor = os.open(path, flags | CAREFUL, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):  # changed since it was checked
            check_plain(path)
        raise
    try:
        _check_kind(path, os.fstat(descriptor), stat.S_IFREG)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_kind(path: Path, found: os.stat_result, wanted: int) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind == wanted:
        return
    if kind == stat.S_IFLNK:
        raise _led_out(path, f"a link to {_target(path)}")
    raise InputError(
        f"{path} is {_KINDS.get(kind, 'of an unknown kind')}.",
        expected=f"{_KINDS[wanted]} there.",
        next="remove it if you do not know it, or restore the right one from a copy.",
    )


def _check_size(path: Path, descriptor: int, most: int | None) -> None:
    found = os.fstat(descriptor)
    if most is not None and found.st_size > most:
        raise _too_large(path, megabytes(found.st_size), most)
    stored = 512 * getattr(found, "st_blocks", found.st_size)
    if found.st_size <= HOLLOW or stored * DENSITY >= found.st_size:
        return
    stored = max(stored, _data(descriptor, -(-found.st_size // DENSITY)))
    if stored * DENSITY < found.st_size:
        raise InputError(
            f"{path} claims {megabytes(found.st_size)}, of which {megabytes(stored)} lie on the "
            "disk: the rest are holes.",
            expected="a file as distill wrote it.",
            next="ask who made it; `cp --sparse=never FILE COPY` fills the holes, if you must.",
        )


def _data(descriptor: int, enough: int) -> int:
    """Count the bytes of an open file that lie in no hole, up to `enough`.

    Some file systems, as FUSE stores, tell no number of blocks, or too few.
    """
    total = end = 0
    with contextlib.suppress(OSError, AttributeError):  # no more data, or the system has no holes
        while total < enough:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            total += end - start
    os.lseek(descriptor, 0, os.SEEK_SET)
    return total


def _target(path: Path) -> str:
    try:
        return repr(os.readlink(path))[:200]
    except OSError:
        return "another file"


def _led_out(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} is {what}.",
        expected="plain files and folders in a run directory: a link would lead out of it.",
        next="remove it if you do not know it. `cp -rL FOLDER COPY` puts files in the place of "
        "links; to keep runs on another disk, link the whole run directory.",
    )


def _too_large(path: Path, size: str, most: int) -> InputError:
    return InputError(
        f"{path} has {size}, too many for a file of its kind.",
        expected=f"at most {megabytes(most)}.",
        next="check what it is, and where it came from.",
    )
