"""Files: atomic writes, tensors with metadata as safetensors, JSON and TOML. No pickle is read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tomllib
from collections.abc import Collection, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core.system.plain_files import LOG, lines_of, open_plain, open_to_write, path_of
from distill_core.system.units import megabytes
from registry import EnvironmentFault, InputError

if TYPE_CHECKING:
    from torch import Tensor

METADATA_KEY = "distill"
PART = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part")  # the names of half-written files
MOST_HEADER = 2**24  # bytes of names, shapes and metadata in a file of tensors


def write_atomically(path: Path, data: bytes, *, keep: Path | None = None) -> None:
    """Write a file so that a reader sees the old content or the new, never a part of it.

    Missing folders are made. The new content is on the disk before it takes the name.

    Args:
        path: the file.
        data: its new content.
        keep: gets the old content, once the new one is complete.

    Raises:
        EnvironmentFault: the machine refused (disk full, no permission). The old file is untouched
            and nothing half-written is left.
    """
    beside = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            _keep(path, keep)
        os.replace(beside, path)
        flush_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error, f" ({megabytes(len(data))})") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Append a line to a file; one that a killed writer left half-written is ended before it.

    Raises:
        OSError: the machine refused; what was written of the line is taken back.
        InputError: it is no plain file, or has a second name somewhere (a hard link).
    """
    with os.fdopen(open_to_write(path, append=True), "ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
        data = (b"" if not size or file.read(1) == b"\n" else b"\n") + line.encode() + b"\n"
        try:
            while data:
                data = data[file.write(data) or 0 :]
        except OSError:
            file.truncate(size)
            raise


def part_of(path: Path) -> Path:
    """Return a new name beside a file or folder for what is not complete yet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def is_part(path: Path) -> bool:
    """Return whether a name is one of `part_of`."""
    return PART.fullmatch(path.name) is not None


def remove_parts(folder: Path) -> None:
    """Delete what killed writers left half-written in a folder that nobody else writes to."""
    for part in filter(is_part, folder.iterdir() if folder.is_dir() else ()):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError, size: str = "") -> EnvironmentFault:
    """Return the error for a file or folder that the machine refused to write."""
    return EnvironmentFault(
        f"{path}{size} cannot be written: {error.strerror or error}.",
        expected=f"a writable place with enough room; {_free_space(path.parent)}.",
        next="make room or give permission, or choose another folder (--out for a run, the "
        "environment variable DISTILL_CACHE for the cache).",
    )


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    *,
    keep: Path | None = None,
) -> str:
    """Write tensors and metadata as safetensors; equal content gives equal bytes.

    Args:
        path: the file; replaced atomically.
        tensors: any device and layout; may share memory.
        metadata: JSON values.
        keep: gets the old file.

    Returns:
        The SHA-256 of the file, hexadecimal.

    Raises:
        EnvironmentFault: as `write_atomically`.
    """
    data = tensor_bytes(tensors, metadata)
    write_atomically(path, data, keep=keep)
    return hashlib.sha256(data).hexdigest()


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Return what `write_tensors` writes.

    The metadata are one string under one key, since safetensors writes several keys in random
    order.
    """
    from safetensors.torch import save

    plain = {name: _plain(tensor) for name, tensor in tensors.items()}
    data: bytes = save(plain, metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    return data


def read_tensors(
    path: Path, names: Collection[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote: tensors on the CPU, and the metadata.

    Args:
        path: the file.
        names: the tensors to read; names that the file lacks are left out. None: all.

    Raises:
        InputError: the file is missing, truncated, corrupt, no plain file, or was not written by
            distill.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open_plain(path) as held:
            _check_header(held)
            with safe_open(path_of(held, path), framework="pt") as file:
                header = file.metadata() or {}
                # Copied: the file is mapped into memory, and may be replaced or removed later.
                tensors = {
                    name: file.get_tensor(name).clone()
                    for name in file.keys()  # noqa: SIM118
                    if names is None or name in names
                }
        metadata = parse_json(header[METADATA_KEY])
    except InputError:
        raise
    except FileNotFoundError:
        raise _unusable(path, "does not exist") from None
    except KeyError:
        raise _unusable(path, "was not written by distill") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise _unusable(path, f"cannot be read: {error}") from None
    if not isinstance(metadata, dict):
        raise _unusable(path, "was not written by distill")
    return tensors, metadata


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, in UTF-8 if bytes.

    Raises:
        ValueError: it is not JSON, not text, or nested too deeply.

    >>> parse_json('{"step": 3}')
    {'step': 3}
    """
    if not isinstance(text, str | bytes):
        raise ValueError(f"JSON text was expected, not {type(text).__name__}")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def objects_of(path: Path, most: int | None = LOG) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines, without damaged lines; none if it is missing.

    Args:
        path: the file.
        most: as of `lines_of`.

    Raises:
        OSError, InputError: as `lines_of`.
    """
    for line in lines_of(path, most):
        try:
            found = parse_json(line)
        except ValueError:
            continue
        if found and isinstance(found, dict):
            yield found


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: it is not TOML, or nested too deeply.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def flush_folder(folder: Path) -> None:
    """Make new names in a folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not supported by the file system
            raise
    finally:
        os.close(descriptor)


def _keep(path: Path, keep: Path) -> None:
    """Give a file's content a second name, under which another is replaced.

    As a link, so that the file never lacks its own name; moved where there are no links.
    """
    link = part_of(keep)
    try:
        os.link(path, link)
    except OSError:
        os.replace(path, keep)
        return
    try:
        os.replace(link, keep)
    finally:
        # Two names of one file are not renamed into each other: both stay.
        link.unlink(missing_ok=True)


def _plain(tensor: Tensor) -> Tensor:
    import torch

    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _check_header(file: BufferedReader) -> None:
    length = int.from_bytes(file.read(8), "little")
    if length > os.fstat(file.fileno()).st_size:
        raise ValueError("it is cut short, or no safetensors file")
    if length > MOST_HEADER:
        raise ValueError(f"its header has {megabytes(length)}, at most {megabytes(MOST_HEADER)}")


def _unusable(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} {why}.",
        expected="a complete safetensors file of distill.",
        next="check the path, or make the file again.",
    )


def _free_space(folder: Path) -> str:
    """Say how much space is free, in the nearest folder above that exists."""
    for place in (folder, *folder.absolute().parents):
        with contextlib.suppress(OSError):
            return f"{megabytes(shutil.disk_usage(place).free)} are free there"
    return "its free space is not known"
