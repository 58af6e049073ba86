"""One set of decoded pictures on the disk: how it is written, and read back as memory maps.

A folder holds the bytes of both parts' images, their labels, and a record of what they are and of
the digest of each file. A digest is not computed again while the file has the stamp that it had.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

import torch
from torch import Tensor

from distill_core.contracts.data import DataSpec, RawData
from distill_core.data.facts import Facts
from distill_core.data.half_made import RECORD as BEGUN
from distill_core.data.half_made import flush_file
from distill_core.data.mapped_pixels import DiskRoom
from distill_core.data.picture_space import RECORD
from distill_core.system.cached_tensors import Misfit
from distill_core.system.files import parse_json, write_atomically
from distill_core.system.mapped import mapped
from distill_core.system.stamps import file_digest, stamps_of
from registry import EnvironmentFault

FORMAT = 1
SEEN, FACTS = "seen.json", "facts.json"
DTYPES = {
    "train_images": torch.uint8,
    "train_labels": torch.int64,
    "test_images": torch.uint8,
    "test_labels": torch.int64,
}


def write_set(part: Path, raw: RawData, room: DiskRoom) -> None:
    """Give the files of a folder their names, and say what they hold.

    Args:
        part: the folder.
        raw: what was loaded.
        room: gave the memory of its images.

    Raises:
        OSError: the disk is full.
    """
    files, named = {}, {}
    for name, dtype in DTYPES.items():
        tensor: Tensor = getattr(raw, name)
        path = named[name] = room.file_of(tensor) or part / f"{name}.bin"
        if path.suffix == ".bin":
            path.write_bytes(tensor.contiguous().numpy().tobytes())
        flush_file(path)
        shape = list(tensor.shape)
        files[name] = {"shape": shape, "dtype": str(dtype), "sha256": file_digest(path)}
    spec = {
        "name": raw.spec.name,
        "class_names": raw.spec.class_names,
        "image_shape": raw.spec.image_shape,
        "augmentations": raw.spec.augmentations,
        "fit": raw.spec.fit,
    }
    record = {"format": FORMAT, "spec": spec, "notes": raw.notes, "files": files}
    write_atomically(part / RECORD, json.dumps(record).encode())
    # Now all that takes room is written. If it was not there, what is half made can be gone on with
    # as long as images have the names that its record says.
    for name, path in named.items():
        path.rename(part / f"{name}.bin")
    for left in (*part.glob("*.u8"), *part.glob(BEGUN)):
        left.unlink()
    with contextlib.suppress(EnvironmentFault):
        write_atomically(part / SEEN, json.dumps(_stamps(part)).encode())


def read_set(folder: Path) -> RawData:
    """Map what `write_set` has written.

    Raises:
        Misfit: it is damaged, cut, or of another version.
    """
    try:
        text = (folder / RECORD).read_bytes()
        record = parse_json(text)
        if record["format"] != FORMAT:
            raise Misfit("is of another version")
        spec = DataSpec(
            str(record["spec"]["name"]),
            tuple(record["spec"]["class_names"]),
            tuple(record["spec"]["image_shape"]),
            tuple(record["spec"]["augmentations"]),
            record["spec"]["fit"],
        )
        tensors = {
            name: mapped(folder / f"{name}.bin", tuple(record["files"][name]["shape"]), dtype)
            for name, dtype in DTYPES.items()
        }
        if not _seen(folder):
            for name, said in record["files"].items():
                if file_digest(folder / f"{name}.bin") != said["sha256"]:
                    raise Misfit(f"does not have the digest of its {name}")
            with contextlib.suppress(EnvironmentFault):
                write_atomically(folder / SEEN, json.dumps(_stamps(folder)).encode())
        with contextlib.suppress(OSError):
            os.utime(folder / RECORD)  # used just now
        known = Facts(folder / FACTS, hashlib.sha256(text).hexdigest())
        return RawData(spec, **tensors, notes=tuple(record["notes"]), known=known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise Misfit(f"is missing something, cut or damaged ({why})") from error


def _seen(folder: Path) -> bool:
    """Whether the files are those whose digests were compared."""
    with contextlib.suppress(OSError, ValueError):
        return bool(parse_json((folder / SEEN).read_bytes()) == _stamps(folder))
    return False


def _stamps(folder: Path) -> str:
    return stamps_of({name: folder / f"{name}.bin" for name in DTYPES}).digest
