"""Paths as callers in Python give them."""

from __future__ import annotations

import os
from pathlib import Path

from registry import InputError


def as_path(given: object, *, what: str) -> Path:
    """Return what was given as a path.

    Args:
        given: text, or a path of any kind.
        what: the argument, for the message.

    Raises:
        InputError: it is neither.

    >>> as_path("runs/mine", what="out").name
    'mine'
    """
    if isinstance(given, str | os.PathLike) and isinstance(os.fspath(given), str):
        return Path(given)
    raise InputError(
        f"{what} is {given!r:.60}, which is no path but of type {type(given).__name__}.",
        expected="text or a pathlib.Path.",
        next=f'pass {what} as "runs/NAME", for example.',
    )
