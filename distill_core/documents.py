"""JSON and TOML from files that anybody may have written: what cannot be read is a `ValueError`."""

from __future__ import annotations

import json
import tomllib
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, in UTF-8 if bytes.

    Raises:
        ValueError: it is no JSON, no text, or nested too deeply.

    >>> parse_json('{"step": 3}')
    {'step': 3}
    """
    if not isinstance(text, str | bytes):
        raise ValueError(f"JSON text was expected, not {type(text).__name__}")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: it is no TOML, or nested too deeply.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
