"""The files that a manifest describes are one set: it is replaced as a whole.

Files are replaced one after another, manifest.json last. Until then `.previous` in the run
directory holds the last complete set, as links to its files, which cost no space. Whatever stops a
writer, a kill or a full disk, readers find a complete set: `.previous` while its manifest is still
the one of the run directory, or else the files of the run directory themselves.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from distill_core.artefact.contents import CONFIG, KEPT, MANIFEST
from distill_core.artefact.manifest import read_manifest
from distill_core.system.files import cannot_write, flush_folder, part_of, write_atomically
from distill_core.system.plain_files import open_plain, read_plain
from registry import EnvironmentFault, InputError

ATTEMPTS = 5  # to read a set that a running run replaces
T = TypeVar("T")


def current(run_dir: Path) -> Path:
    """Return the folder of the last complete set: a run directory, or its `.previous`."""
    kept = run_dir / KEPT
    manifest = kept / MANIFEST
    try:
        if kept.is_symlink() or not manifest.is_file():
            return run_dir
        same = read_plain(manifest) == read_plain(run_dir / MANIFEST)
    except (OSError, InputError):
        return run_dir
    return kept if same else run_dir


def current_file(path: Path) -> Path:
    """Return a file of a set as the last complete set has it."""
    found = current(path.parent) / path.name
    return found if found.exists() else path


def state_of_set(run_dir: Path) -> object:
    """Return what changes when a set is replaced."""
    try:
        found = (run_dir / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, (run_dir / KEPT).exists()


def read_set(run_dir: Path, read: Callable[[Callable[[], None]], T]) -> T:
    """Read files of a set that belong together; again if a run has replaced them meanwhile.

    Args:
        run_dir: where the set is.
        read: reads it. It is given a function to call after its last file, which raises if the set
            was replaced; it need not, if what it read shows by itself that it belongs together.

    Returns:
        What `read` returned.

    Raises:
        InputError: the set was replaced at each of five attempts.
        Exception: what `read` raised, while nothing was replaced.
    """
    attempts = 0
    while True:
        before = state_of_set(run_dir)
        attempts += 1
        try:
            return read(partial(_check_same, run_dir, before))
        except (InputError, OSError):
            if attempts == ATTEMPTS or state_of_set(run_dir) == before:
                raise


def _check_same(run_dir: Path, before: object) -> None:
    if state_of_set(run_dir) != before:
        raise InputError(
            f"the result in {run_dir} was replaced while it was read.",
            expected="a run that writes its result less often than it can be read.",
            next="try again, or wait for the end of the run.",
        )


def keep(run_dir: Path) -> None:
    """Keep the last complete set until a new manifest is written; do this before other files.

    Nothing is done if it is kept already, or if there is none.

    Raises:
        EnvironmentFault: the links cannot be made; the set is untouched.
    """
    kept = run_dir / KEPT
    if current(run_dir) == kept or not (run_dir / MANIFEST).is_file():
        return
    part = part_of(kept)
    try:
        _remove(kept)
        part.mkdir()
        for name in _names(run_dir):
            _link(run_dir / name, part / name)
        flush_folder(part)
        part.rename(kept)
        flush_folder(run_dir)
    except OSError as error:
        if isinstance(error, EnvironmentFault):
            raise
        raise cannot_write(kept, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def release(run_dir: Path) -> None:
    """Remove what `keep` kept, after the new manifest was written."""
    with contextlib.suppress(OSError):  # it is void: its manifest is not the run's any more
        _remove(run_dir / KEPT)


def _names(run_dir: Path) -> Iterator[str]:
    """Yield the files of a set that are there; the manifest last."""
    try:
        listed = read_manifest(run_dir).get("files")
    except InputError:
        listed = {}
    names = listed if isinstance(listed, dict) else {}
    plain = {name for name in (*names, CONFIG) if Path(name).name == name and name != MANIFEST}
    for name in (*sorted(plain), MANIFEST):
        path = run_dir / name
        if path.is_file() and not path.is_symlink():
            yield name


def _link(path: Path, link: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links."""
    try:
        os.link(path, link)
    except OSError:
        with open_plain(path) as file:
            write_atomically(link, file.read())


def _remove(kept: Path) -> None:
    """Take the name away before the files, so that no part of a set has it."""
    if not kept.exists():
        return
    gone = part_of(kept)
    kept.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
