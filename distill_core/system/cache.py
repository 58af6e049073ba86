"""The cache: a folder of files that can be made again, such as whitening matrices."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from registry import InputError


def at_home(path: Path, named: str) -> Path:
    """Return a path with "~" replaced by the home folder.

    Args:
        path: as the user gave it.
        named: what gave it, for the message.

    Raises:
        InputError: there is no such user, or this one has no home folder.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise InputError(
            f"{named} is {path}, and there is no such home folder.",
            expected="a path, or one that begins with ~/ or ~USER/ for a user of this machine.",
            next=f"correct {named}.",
        ) from None


def cache_dir() -> Path:
    """Return the folder of the cache; it need not exist yet.

    The environment variable DISTILL_CACHE names it. Without it, the folder is `distill` in
    XDG_CACHE_HOME, or in the platform's folder for caches (`~/.cache` on Linux).

    Raises:
        InputError: it begins with "~", and there is no such home folder.
    """
    if chosen := os.environ.get("DISTILL_CACHE"):
        return at_home(Path(chosen), "DISTILL_CACHE")
    return _user_caches() / "distill"


def _user_caches() -> Path:
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return at_home(Path(chosen), "XDG_CACHE_HOME")
    usual = "~/.cache"
    if sys.platform == "win32":
        usual = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    if sys.platform == "darwin":
        usual = "~/Library/Caches"
    return at_home(Path(usual), "DISTILL_CACHE, which is not set,")
