"""What data are called for a reader: as the dataset, or as the file or folder they lie in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PureWindowsPath
from typing import Any

ARCHIVES = (".zip", ".tar", ".parquet")
LONGEST = 40  # in the name of a file or directory, which file systems limit


def data_name(choice: Mapping[str, Any]) -> str:
    """Return the name of a user's own data, as the last part of their path says it.

    Datasets of a user's own data have an option `path`; all others are called as they are.

    Args:
        choice: name and options of a dataset, as `RunConfig.component` and manifests have them.

    >>> data_name({"name": "imagefolder", "options": {"path": "/home/me/birds.zip"}})
    'birds'
    >>> data_name({"name": "cifar10", "options": {"root": "/home/me/data"}})
    'cifar10'
    """
    # Of Windows: it takes both slashes, and a run may be read on another system than its own.
    last = PureWindowsPath(str((choice.get("options") or {}).get("path") or "")).name
    for end in ARCHIVES:
        if last.lower().endswith(end):
            last = last[: -len(end)]
    return last if last.strip(".") else str(choice["name"])


def name_in_files(name: str) -> str:
    """Return what data are called where it is a part of the name of a file or a directory.

    >>> name_in_files("my birds (2)")
    'my_birds_2_'
    """
    return re.sub(r"[^\w.-]+", "_", name)[:LONGEST]
