"""What of a directory is ours: files and folders by name, for those who are about to delete."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from distill_core.system.files import PART
from distill_core.system.units import shortened

# What file systems and desktops leave everywhere; it is nobody's work, and it is left.
LITTER = (".DS_Store", "._*", "Thumbs.db", "desktop.ini", ".nfs*")


@dataclass(frozen=True)
class Listing:
    """What something writes into a directory of its own; `*` stands for any text.

    Half-written files and folders (`system/files.py`) count as those that they were to be.

    Attributes:
        files: names of files.
        folders: names of folders, with those of the files in each.
    """

    files: tuple[str, ...]
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def has_file(self, name: str) -> bool:
        """Say whether a file of this name belongs to the top of the directory."""
        return _matches(name, self.files)

    def inside(self, name: str) -> tuple[str, ...] | None:
        """Return the names of the files in a folder; None if the folder is not one of these."""
        return next((self.folders[each] for each in self.folders if _matches(name, (each,))), None)

    def written(self, directory: Path) -> Iterator[Path]:
        """Yield what is there of these files, and then the folders that held some.

        A link, a pipe or a device is none of them, whatever its name is.
        """
        for path in sorted(directory.iterdir()):
            if _is(path, stat.S_IFREG) and self.has_file(path.name):
                yield path
            elif (names := self.inside(path.name)) is not None and _is(path, stat.S_IFDIR):
                for each in sorted(path.iterdir()):
                    if _is(each, stat.S_IFREG) and _matches(each.name, names):
                        yield each
                yield path

    def strangers(self, directory: Path) -> list[str]:
        """Name what else is there, with a "/" after folders."""
        ours = set(self.written(directory))
        found = []
        for path in sorted(directory.iterdir()):
            inside = sorted(path.iterdir()) if path in ours and path.is_dir() else []
            found += [each for each in (path, *inside) if each not in ours]
        return [
            f"{path.relative_to(directory)}{'/' if _is(path, stat.S_IFDIR) else ''}"
            for path in found
            if not is_litter(path.name)
        ]


def is_litter(name: str) -> bool:
    """Say whether file systems and desktops leave files of this name everywhere."""
    return _matches(name, LITTER)


def named(strangers: list[str], most: int = 5) -> str:
    """Return names for a sentence.

    >>> named(["a.txt", "b/"], most=1)
    "'a.txt' and 1 more"
    """
    return shortened([repr(name) for name in strangers], most)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    half = PART.fullmatch(name)
    return any(fnmatchcase(half[1] if half else name, pattern) for pattern in patterns)


def _is(path: Path, kind: int) -> bool:
    return stat.S_IFMT(path.lstat().st_mode) == kind
