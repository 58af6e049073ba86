"""What a run writes into its directory: every file and folder, by name.

`--overwrite` removes what is named here and nothing else, so a file that a run newly writes belongs
here. `*` stands for any text.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from distill_core.system.files import PART

CONFIG, METRICS, LOCK = "run.toml", "metrics.jsonl", ".lock"
MANIFEST = "manifest.json"
DISTILLED, WHITENING = "distilled.safetensors", "whitening.safetensors"
POSTER, POSTER_GRID, TIMELAPSE = "poster.png", "poster_grid.png", "poster.gif"
REPORT = "report.html"
CHECKPOINT, EVALUATION, SNAPSHOTS = "checkpoint", "evaluation", "snapshots"
STATE, PREVIOUS = "state.safetensors", "previous.safetensors"
EVENTS = "events.out.tfevents.*"  # TensorBoard's

FILES = (
    *(CONFIG, METRICS, LOCK, MANIFEST, DISTILLED, WHITENING),
    *(POSTER, POSTER_GRID, TIMELAPSE, REPORT, EVENTS),
)
FOLDERS = {
    CHECKPOINT: (STATE, PREVIOUS),
    EVALUATION: ("*.json",),
    SNAPSHOTS: ("step_*.png",),
}
# What file systems and desktops leave everywhere; it is nobody's work, and it is left.
LITTER = (".DS_Store", "._*", "Thumbs.db", "desktop.ini", ".nfs*")


def is_written(name: str) -> bool:
    """Say whether a run writes a file of this name at the top of its directory."""
    return _matches(name, FILES)


def written(run_dir: Path) -> Iterator[Path]:
    """Yield the files in a directory that a run wrote, and then their folders.

    A link, a pipe or a device is not one, whatever its name is.
    """
    for path in sorted(run_dir.iterdir()):
        if _is(path, stat.S_IFREG) and is_written(path.name):
            yield path
        elif path.name in FOLDERS and _is(path, stat.S_IFDIR):
            inside = sorted(path.iterdir())
            yield from (each for each in inside if _is_part_of(each, FOLDERS[path.name]))
            yield path


def strangers(run_dir: Path) -> list[str]:
    """Name what lies in a directory and was not written by a run, with a "/" after folders."""
    ours = set(written(run_dir))
    found = []
    for path in sorted(run_dir.iterdir()):
        inside = sorted(path.iterdir()) if path in ours and path.is_dir() else []
        found += [each for each in (path, *inside) if each not in ours]
    return [
        f"{path.relative_to(run_dir)}{'/' if _is(path, stat.S_IFDIR) else ''}"
        for path in found
        if not _matches(path.name, LITTER)
    ]


def _is_part_of(path: Path, patterns: tuple[str, ...]) -> bool:
    return _is(path, stat.S_IFREG) and _matches(path.name, patterns)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Say whether a name, or that of a half-written file, is one of the patterns."""
    half = PART.fullmatch(name)
    return any(fnmatchcase(half[1] if half else name, pattern) for pattern in patterns)


def _is(path: Path, kind: int) -> bool:
    return stat.S_IFMT(path.lstat().st_mode) == kind
