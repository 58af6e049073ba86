"""Which file of a folder its result is in: one of two.

distilled.safetensors   of float32 pixels: images, labels and parameters, for readers of any kind
stored.safetensors      of decoders and of other stored types: the numbers alone, which are decoded
                        when they are read

Earlier versions wrote both of a decoder. Then the first is read, as they did.
"""

from __future__ import annotations

import os
from pathlib import Path

from distill_core.artefact.contents import DISTILLED, INFO, STORED
from distill_core.artefact.last_set import current, current_file
from distill_core.artefact.manifest import read_manifest
from registry import InputError

RESULTS = (DISTILLED, STORED)


def result_file(folder: Path) -> Path:
    """Return the file of the result of a folder, in its last complete set.

    The manifest says which it is; without one, the first that is there. It may be missing.
    """
    folder = current(folder)
    listed = listed_results(folder) or RESULTS
    there = [name for name in listed if os.path.lexists(folder / name)]
    return folder / (*there, *listed)[0]


def folder_of(named: Path) -> Path:
    """Return the folder of a result that a user names by its file, by a link, or by its folder."""
    return named if named.is_dir() else _plain(named).parent


def file_of(named: Path) -> Path:
    """Return the file of a result that a user names so, in its last complete set."""
    return result_file(named) if named.is_dir() else current_file(_plain(named))


def _plain(named: Path) -> Path:
    return named.resolve() if named.is_symlink() else named


def check_there(file: Path) -> None:
    """Refuse the file of a result that is missing.

    Raises:
        InputError: it is.
    """
    if os.path.lexists(file):
        return
    step = "check the path; a run writes its result at every checkpoint."
    other = result_file(file.parent)
    if file.name in RESULTS and other.name != file.name and other.exists():
        step = f"load the directory, or {other.name} in it, which has the result."
    elif (file.parent / INFO).exists():
        step = (
            f"this is an export, and {INFO} says how it is read; load the run that it was made "
            "from, or its export --format huggingface."
        )
    raise InputError(
        f"{file} does not exist.",
        expected="a run directory with a result, or the file of one.",
        next=step,
    )


def has_result(folder: Path) -> bool:
    """Say whether a folder has the file of a result."""
    return result_file(folder).exists()


def listed_results(folder: Path) -> tuple[str, ...]:
    """Return the files of a result that the manifest of a folder lists; none, if it cannot."""
    try:
        listed = read_manifest(folder).get("files")
    except InputError:
        return ()
    return tuple(name for name in RESULTS if isinstance(listed, dict) and name in listed)
