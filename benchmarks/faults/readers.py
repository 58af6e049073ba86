"""Everything that distill reads from disk, each as a good file and a function that reads it."""

from __future__ import annotations

import os
from pathlib import Path

from cached import cache_readers
from inputs import input_readers
from places import place_readers
from reader import Reader
from run_files import Good, run_readers


def readers(folder: Path) -> list[Reader]:
    """Make a small run below `folder`; return the readers of its files and of other inputs."""
    os.environ["DISTILL_CACHE"] = str(folder / "cache")
    good = Good.make(folder / "good")
    return [*run_readers(good), *place_readers(good), *input_readers(), *cache_readers()]
