"""Where the files in a .tar lie, so that they are read in any order and nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from distill_core.builtin.datasets.plain_files import check_content
from distill_core.plugin import InputError, shown

BEHIND = 2**16  # bytes behind the end that are looked at: writers fill up with zeros
FOLDERS = (tarfile.DIRTYPE,)
READ_ERRORS = (
    OSError,
    tarfile.TarError,
    ValueError,  # a number in a head that is none, or no text
    OverflowError,  # one that is larger than any file
    MemoryError,
    RecursionError,  # heads that speak of heads
)


class Place(NamedTuple):
    """Where the content of a file lies in its archive, in bytes."""

    offset: int
    size: int


def files_in(path: Path) -> Iterator[tuple[str, Place]]:
    """Yield the names of files in an archive, with "/" and without "./", and their places.

    Raises:
        InputError: it is compressed, cut, damaged or no .tar; or a member is a link or a device,
            or has a name that leads out of the archive.
    """
    try:
        check_content(path)
        with tarfile.open(path, "r:", errorlevel=2) as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                if member.size < 0:  # the next head would be an earlier one
                    raise tarfile.ReadError(f"it is damaged at byte {member.offset:,}")
                if member.type not in FOLDERS:
                    yield _plain(path, member), Place(member.offset_data, member.size)
            _check_end(path, tar.offset)
    except InputError:
        raise
    except READ_ERRORS as error:
        reason = _reason(error)
        packed = path.suffix in {".gz", ".tgz", ".bz2", ".xz", ".zst"}
        raise InputError(
            f"{path} cannot be read: {reason}.",
            expected="a whole .tar that is not compressed.",
            next="unpack it to a plain .tar, with gunzip for example."
            if packed
            else "restore it, or download it again.",
        ) from None


def read_at(path: Path, place: Place) -> bytes:
    """Read a file of an archive.

    Raises:
        OSError: it cannot be read, or is cut.
    """
    with open(path, "rb", buffering=0) as file:
        file.seek(place.offset)
        data = file.read(place.size)
    if len(data) != place.size:
        raise OSError("the archive was cut")
    return data


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if isinstance(error, OSError | tarfile.TarError):
        text: str = getattr(error, "strerror", None) or str(error)
        return text
    return "the head of a member makes no sense"


def _plain(path: Path, member: tarfile.TarInfo) -> str:
    parts = [part for part in member.name.split("/") if part not in {"", "."}]
    if member.name.startswith("/") or ".." in parts:
        raise InputError(
            f"{path} has a member whose name leads out of it: {shown(member.name)}.",
            expected="names below the archive.",
            next="do not trust it; make the archive anew.",
        )
    if not member.isreg() or member.issparse():
        raise InputError(
            f"{path} has a member that is no plain file: {shown(member.name)}.",
            expected="files, and no links, devices or files with holes.",
            next="make the archive anew; `tar --dereference` puts files in place of links.",
        )
    return "/".join(parts)


def _check_end(path: Path, end: int) -> None:
    """Refuse what `tarfile` takes for the end of an archive, but is not.

    An archive ends with two blocks of zeros. One that was cut between two members, or that is
    damaged in the head of a member, would be read up to there without a word.
    """
    with open(path, "rb") as file:
        file.seek(end)
        rest = file.read(BEHIND)
    if len(rest) < tarfile.BLOCKSIZE or rest.strip(b"\0"):
        raise tarfile.ReadError(
            f"it is cut or damaged at byte {end:,}, or another archive follows there"
        )
