"""Caches of their own for tests, which share nothing except the compiled C blocks.

Compiling these takes 13 s. The first process that needs them compiles them into one folder, and
every cache made here has a link to it. Set DISTILL_TEST_KERNELS to a folder to keep them for the
next run of the tests; their name is a digest of the source, the compiler and the processor.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

SHARED = "DISTILL_TEST_KERNELS"

if SHARED not in os.environ:  # inherited by the workers of xdist and by all processes of tests
    os.environ[SHARED] = tempfile.mkdtemp(prefix="kernels-of-tests-")
    atexit.register(shutil.rmtree, os.environ[SHARED], ignore_errors=True)


def make_cache(folder: Path) -> Path:
    """Make the folder of a cache that holds nothing except the compiled C blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = Path(os.environ[SHARED])
    shared.mkdir(parents=True, exist_ok=True, mode=0o700)  # or no library in it is loaded
    (folder / "kernels").symlink_to(shared.absolute())
    return folder
