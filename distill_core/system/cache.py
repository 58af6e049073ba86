"""The cache: a folder of files that can be made again, such as whitening matrices."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """Return the folder of the cache; it need not exist yet.

    The environment variable DISTILL_CACHE names it. Without it, the folder is `distill` in
    XDG_CACHE_HOME, or in the platform's folder for caches (`~/.cache` on Linux).
    """
    if chosen := os.environ.get("DISTILL_CACHE"):
        return Path(chosen).expanduser()
    return _user_caches() / "distill"


def _user_caches() -> Path:
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Caches").expanduser()
    return Path("~/.cache").expanduser()
