"""What an export has written into a folder, by name: `--force` removes no folder with more."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill_core.artefact.contents import INFO
from distill_core.system.files import parse_json
from distill_core.system.listing import is_litter
from distill_core.system.plain_files import PICTURE, read_plain
from registry import InputError

# What earlier versions, which listed nothing, wrote besides pictures.
EARLIER = (
    *("tensors.safetensors", "whitening.safetensors", "poster.safetensors"),
    *("images.pt", "labels.pt", "lr.pt", "geometry.json", "labels.json", "README.md", "run.toml"),
    *("train/", "train/metadata.jsonl", INFO),
)


def names_in(folder: Path) -> list[str]:
    """Return all that lies in a folder, sorted, with a "/" after folders."""
    return sorted(_name(path, folder) for path in folder.rglob("*"))


def written_in(out: Path) -> set[str] | None:
    """Return what an export wrote into a folder; None if none has."""
    try:
        info = parse_json(read_plain(out / INFO))
        if "distill_export" not in info:
            return None
        return {INFO, *info["files"]} if "files" in info else {*EARLIER, *_pictures(out)}
    except (OSError, InputError, ValueError, TypeError):
        return None


def strangers(out: Path, written: set[str]) -> list[str]:
    """Name what else is there, without what file systems and desktops leave everywhere."""
    others = (name for name in names_in(out) if name not in written)
    return [name for name in others if not is_litter(name.rpartition("/")[2])]


def _name(path: Path, folder: Path) -> str:
    """Name a file, or a folder; a link, a pipe or a device is none, whatever its name is."""
    mode, name = path.lstat().st_mode, path.relative_to(folder).as_posix()
    if stat.S_ISREG(mode):
        return name
    return f"{name}/" if stat.S_ISDIR(mode) else f"{name} (no plain file)"


def _pictures(out: Path) -> Iterator[str]:
    """Yield the pictures of an earlier version, and their folders, as its own files name them."""
    for name, names in (("labels.json", _of_classes), ("train/metadata.jsonl", _of_hub)):
        try:
            yield from names(read_plain(out / name, PICTURE))
        except (OSError, InputError, ValueError, TypeError, KeyError):
            continue  # then it has none, or they count as somebody else's


def _of_classes(data: bytes) -> list[str]:
    found: dict[str, Any] = parse_json(data)
    return [*found["labels"], *(f"{folder}/" for folder in found["folders"])]


def _of_hub(data: bytes) -> list[str]:
    return [f"train/{parse_json(line)['file_name']}" for line in data.splitlines()]
