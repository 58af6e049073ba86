"""What was found out about kept images, so that it is not found out again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill_core.system.files import parse_json, write_atomically
from registry import EnvironmentFault

MOST_FACTS = 1000


class Facts:
    """Answers to questions about one set of images, in a file beside them.

    Called as `RawData.known`. Two processes that find out something at once may lose one answer,
    which is found anew.

    Args:
        path: the file; need not exist.
        about: the digest of the record of the images; answers about others are forgotten.
    """

    def __init__(self, path: Path, about: str) -> None:
        self._path, self._about = path, about

    def __call__(self, question: str, find: Callable[[], Any]) -> Any:
        """Return the JSON value that `find()` returns, or has returned for these images."""
        found = self._read()
        if question not in found:
            found[question] = find()
            self._write(found)
        return found[question]

    def _read(self) -> dict[str, Any]:
        """What is in the file; what is damaged, or about other images, is found anew."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            said = parse_json(self._path.read_bytes())
            if said["sha256"] == self._digest(said["facts"]):
                return dict(said["facts"])
        return {}

    def _write(self, facts: dict[str, Any]) -> None:
        newest = dict(list(facts.items())[-MOST_FACTS:])
        text = json.dumps({"sha256": self._digest(newest), "facts": newest})
        with contextlib.suppress(EnvironmentFault):  # then it is found anew
            write_atomically(self._path, text.encode())

    def _digest(self, facts: dict[str, Any]) -> str:
        return hashlib.sha256(json.dumps([self._about, facts]).encode()).hexdigest()
