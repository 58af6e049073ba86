"""What a reader is, and the settings of the small run whose files are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {
    "repr": "poster",
    "labeler": "poddl",
    "orderer": "identity",
    "algo": "ratbptt",
    "dataset": "shapes",
    "ipc": 0.8,
    "steps": 2,
    "threads": 1,  # OpenMP's threads do not survive the forks of the harness
    "snapshots": 2,
    "evaluate": {"nets": 1, "steps": 2, "full_steps": 2},
    "engine": {"path": "autograd"},  # no program is compiled while a reader is watched
    "data": {"whitening": "zca"},
    "options": {
        "repr": {"patches": "2x5"},
        "algo": {"window": 2, "total": 4, "batch": 8, "real_batch": 16},
        "dataset": {"classes": 6, "size": 8, "train_per_class": 6, "test_per_class": 3},
        "backbone": {"width": 4, "depth": 1},
    },
}


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
        name: what it is.
        kind: how `attacks.mutations` may change it.
        good: a file that is read without complaint.
        read: puts content where it belongs, below a folder that is its own, and reads it.
        put: does the first part where putting needs what reading must not do, such as links.
    """

    name: str
    kind: str
    good: bytes
    read: Callable[[bytes, Path], object]
    put: Callable[[bytes, Path], object] = lambda data, place: None
