"""How much of the disk decoded pictures take: they are bounded, and go at the user's word.

Files that are in use may be removed: who has mapped them keeps them. `mapped_pixels.py` asks for
the bound, `kept_pictures.py` writes and reads.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from distill_core.data.half_made import halves, remove_stale
from distill_core.system.cache import cache_dir
from distill_core.system.files import part_of
from distill_core.system.units import parse_size
from registry import InputError, OptionError

LIMIT, USUAL_LIMIT = "DISTILL_PICTURES", "20GiB"
RECORD, SOURCES = "record.json", "sources"


def pictures_dir() -> Path:
    """Return the folder of all sets of pictures; it need not exist."""
    return cache_dir() / "pictures"


def limit() -> int:
    """Return the bytes that all sets together may take.

    Raises:
        InputError: the environment variable DISTILL_PICTURES is not an amount.
    """
    text = os.environ.get(LIMIT) or USUAL_LIMIT
    try:
        return parse_size(text, what=LIMIT)
    except OptionError:
        raise InputError(
            f"the environment variable {LIMIT} is '{text:.40}'.",
            expected="an amount of disk space with a unit.",
            next=f"set it to {USUAL_LIMIT}, for example, or unset it.",
        ) from None


def kept_sets() -> dict[Path, int]:
    """Return the bytes of each set, those used longest ago first."""
    found = []
    for folder in pictures_dir().glob("*/"):
        with contextlib.suppress(OSError):
            used = (folder / RECORD).stat().st_mtime
            size = sum(path.stat().st_size for path in folder.iterdir())
            found.append((used, folder, size))
    return {folder: size for _, folder, size in sorted(found)}


def make_space(keep: Path) -> None:
    """Remove the sets that were used longest ago, until the rest keeps to the limit.

    What is half made does not count; it goes a week after somebody last worked at it.

    Args:
        keep: a set that stays, however large it is.
    """
    remove_stale(pictures_dir())
    sets = kept_sets()
    total = sum(sets.values())
    for folder, size in sets.items():
        if total > limit() and folder != keep:
            _remove(folder)
            total -= size


def clear_pictures() -> int:
    """Remove all sets, and what killed processes have left; return the bytes that they had."""
    total = sum(kept_sets().values()) + sum(halves(pictures_dir()).values())
    _remove(pictures_dir())
    return total


def _remove(folder: Path) -> None:
    """Take the name away before the files: who reads it finds it gone, not half empty."""
    gone = part_of(folder)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
