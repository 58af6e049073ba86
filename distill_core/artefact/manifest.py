"""Reading manifest.json from a run directory; `run/manifest.py` collects its content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill_core import __version__
from distill_core.artefact.contents import MANIFEST
from distill_core.system.files import parse_json
from distill_core.system.plain_files import read_plain
from registry import InputError

MANIFEST_FORMAT = 1


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """Read the manifest of a run directory.

    Raises:
        InputError: it is missing, no plain file, not a JSON object, or from a newer version of
            distill.
    """
    path = run_dir / MANIFEST
    try:
        found = parse_json(read_plain(path))
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist.",
            expected="a run directory with a result; a run writes it at every checkpoint.",
            next="check the path, or wait for the first checkpoint.",
        ) from None
    except NotADirectoryError:
        raise InputError(
            f"{run_dir} is a file.",
            expected="a run directory.",
            next=f"name the directory that the run wrote, perhaps '{run_dir.parent}'.",
        ) from None
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}.",
            expected="the manifest that the run wrote.",
            next="restore it from a copy of the run.",
        ) from None
    if found.get("format") != MANIFEST_FORMAT:
        raise InputError(
            f"{path} has format {found.get('format')!r}.",
            expected=f"format {MANIFEST_FORMAT}, which distill {__version__} reads.",
            next="use the version of distill that wrote it (its field versions.distill).",
        )
    return found


def judged_manifest(run_dir: Path) -> dict[str, Any]:
    """Return the manifest of a run that has been judged; empty if it has not, or none is there."""
    try:
        found = read_manifest(run_dir)
    except InputError:
        return {}
    return found if found.get("results") else {}
