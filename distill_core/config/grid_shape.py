"""The option type for sizes and grids: ROWSxCOLS, rows before columns, as everywhere."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_FORM = re.compile(r"\s*(\d+)\s*x\s*(\d+)\s*")


def parse_grid(value: Any) -> tuple[int, int]:
    """Read ROWSxCOLS.

    >>> parse_grid("6x16")
    (6, 16)
    """
    if isinstance(value, str) and (match := _FORM.fullmatch(value)):
        value = (int(match[1]), int(match[2]))
    if (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(side, int) and side > 0 for side in value)
    ):
        return int(value[0]), int(value[1])
    raise ValueError("two positive whole numbers as ROWSxCOLS, for example 6x16")


def format_grid(value: tuple[int, int]) -> str:
    """Write ROWSxCOLS."""
    return f"{value[0]}x{value[1]}"


GridShape = Annotated[
    tuple[int, int],
    BeforeValidator(parse_grid),
    PlainSerializer(format_grid, return_type=str),
    WithJsonSchema({"type": "string", "format": "ROWSxCOLS"}),
]
