"""A folder or a .zip archive as one thing: a list of files that can be read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distill_core.plugin import InputError

READ_ERRORS = (
    KeyError,  # not in the archive
    OSError,
    RuntimeError,  # encrypted
    NotImplementedError,  # compressed in an unknown way
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class FileTree:
    """Files below a folder, in an archive or not.

    Attributes:
        path: the folder or archive that was opened, for messages also the part of it.
        files: paths of all files relative to it, with "/", sorted.
        folders: likewise of all folders, empty ones too.
        hidden: likewise of folders whose names begin with a dot; what is in them is not listed.
    """

    path: Path
    files: tuple[str, ...]
    folders: tuple[str, ...]
    _read: Callable[[str], bytes]
    hidden: tuple[str, ...] = ()

    def read(self, file: str) -> bytes:
        """Read one file.

        Raises:
            InputError: it is missing, damaged, larger than `LARGEST_FILE`, or a device.
        """
        try:
            return self._read(file)
        except READ_ERRORS as error:
            reason = "it is not there" if isinstance(error, KeyError) else error
            raise InputError(
                f"{self.where(file)} cannot be read: {reason}.",
                expected="a file that is there and whole.",
                next="restore it.",
            ) from None

    def text(self, file: str) -> list[str]:
        """Read the lines of a UTF-8 text file that are not blank.

        Raises:
            InputError: it is missing, damaged or no text.
        """
        try:
            lines = self.read(file).decode().splitlines()
        except UnicodeDecodeError:
            raise InputError(
                f"{self.where(file)} is not text.", expected="UTF-8 text.", next="restore it."
            ) from None
        return [line for line in lines if line.strip()]

    def where(self, file: str) -> str:
        """Return how messages name a file or folder of the tree: what cannot be shown is "?"."""
        name = "".join(sign if sign.isprintable() else "?" for sign in file)
        return str(self.path / name)

    def top_folders(self) -> list[str]:
        """Return the folders that lie in no other."""
        return [folder for folder in self.folders if "/" not in folder]

    def inside(self, folder: str) -> FileTree:
        """Return the tree below one of its folders."""
        start = f"{folder}/"

        def below(paths: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(path.removeprefix(start) for path in paths if path.startswith(start))

        return FileTree(
            self.path / folder,
            below(self.files),
            below(self.folders),
            lambda file: self._read(start + file),
            below(self.hidden),
        )

    def holding(self, file: str, *, next: str) -> FileTree:
        """Return the tree with `file` at its top: this one, or the one in a folder of it.

        Args:
            file: a name that tells the tree that is meant.
            next: what the user should do if there is none.

        Raises:
            InputError: there is none.
        """
        if file in self.files:
            return self
        for folder in self.top_folders():
            if f"{folder}/{file}" in self.files:
                return self.inside(folder)
        raise InputError(
            f"{self.path} has no {file}.",
            expected="that file in it, or in a folder of it.",
            next=next,
        )
