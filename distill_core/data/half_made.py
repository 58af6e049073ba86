"""How far a set of pictures is that is being made, so that what was ended is gone on with.

The folder of a set that is half made has a record of how many images are in place. They are on the
disk before the record says so; with other stamps of their sources they count for nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_core.system.files import parse_json, write_atomically
from registry import EnvironmentFault

RECORD, SUFFIX = "begun.json", ".half"
EVERY = 30.0  # seconds of work between two records
STALE = 7 * 24 * 3600.0  # seconds after which nobody is expected to go on


@dataclass
class HalfMade:
    """The record in the folder of a set that is being made.

    Attributes:
        folder: of the set; its other files are images.
        sources: the stamps of what is read.
        count: images that are in place.
        noted: what their reader has to know to go on.
    """

    folder: Path
    sources: str
    count: int = 0
    noted: dict[str, Any] = field(default_factory=dict)
    _written: float = field(default_factory=time.monotonic)

    @staticmethod
    def found(folder: Path, sources: str) -> HalfMade:
        """Return how far a folder is; if its record is damaged or of other sources, empty it."""
        try:
            said = parse_json((folder / RECORD).read_bytes())
            kept = {str(name): int(size) for name, size in said["files"].items()}
            fits = said["sources"] == sources and all(
                (folder / name).stat().st_size == size for name, size in kept.items()
            )
            half = HalfMade(folder, sources, int(said["count"]), dict(said["noted"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            fits = False
        if not fits:
            half, kept = HalfMade(folder, sources), {}
        for path in folder.iterdir():
            if path.name not in kept and (kept == {} or path.name != RECORD):
                path.unlink()
        os.utime(folder)  # it is in use, however old: `remove_stale` leaves it
        return half

    def write(self, count: int, noted: Mapping[str, Any], files: Iterable[Path]) -> None:
        """Record that more images are in place, after they are on the disk.

        Args:
            count: images in place, from the first.
            noted: what their reader has to know; JSON values.
            files: that hold them.
        """
        sizes = {}
        for path in files:
            flush_file(path)
            sizes[path.name] = path.stat().st_size
        record = {"sources": self.sources, "count": count, "noted": noted, "files": sizes}
        with contextlib.suppress(EnvironmentFault):  # then less is gone on with
            write_atomically(self.folder / RECORD, json.dumps(record).encode())
        self._written = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the last record is old enough for a new one."""
        return time.monotonic() - self._written >= EVERY


@contextlib.contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Leave nothing of a folder if its filling is ended before there is a record to go on from."""
    try:
        yield
    except BaseException:
        if not (folder / RECORD).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def flush_file(path: Path) -> None:
    """Wait until a file, and what was written to its map, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def half_of(folder: Path) -> Path:
    """Return the folder in which a set is made that takes a name later."""
    return folder.with_name(f".{folder.name}{SUFFIX}")


def halves(folder: Path) -> dict[Path, int]:
    """Return the folders of sets that are half made, and their bytes."""
    found = {}
    for path in folder.glob(f".*{SUFFIX}/"):
        with contextlib.suppress(OSError):
            found[path] = sum(file.stat().st_size for file in path.iterdir())
    return found


def remove_stale(folder: Path) -> None:
    """Remove sets that are half made, and that nobody has gone on with for a week."""
    for path in halves(folder):
        with contextlib.suppress(OSError):
            newest = max((file.stat().st_mtime for file in path.iterdir()), default=0.0)
            if time.time() - max(newest, path.stat().st_mtime) > STALE:
                shutil.rmtree(path, ignore_errors=True)
