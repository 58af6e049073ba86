"""What the values of options come from, where it is not what their component comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from registry.options import Options, written

_PART = re.compile(r"(?:(\w+): )?(.+)", re.DOTALL)


def in_effect(model: type[Options], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield options with what their values come from, as the source of their `about` says it.

    Its parts stand between semicolons. A part `value: words` is of that value, and another one of
    all values but the default.

    Args:
        model: the options of a component.
        values: as manifests have them. An option that is not there has no effect.

    >>> from pydantic import Field
    >>> from registry.options import about
    >>> class Tea(Options):
    ...     sort: str = Field("black", **about(source="Lu 760; green: Eisai 1211"))
    >>> list(in_effect(Tea, {"sort": "green"}))
    [('sort', 'Lu 760'), ('sort', 'Eisai 1211')]
    >>> list(in_effect(Tea, {"sort": "black"}))
    []
    """
    usual = written(model.model_construct())
    for name, field in model.model_fields.items():
        about = field.json_schema_extra
        if name not in values or not isinstance(about, dict):
            continue
        for part in str(about.get("source", "")).split("; "):
            if said := _PART.fullmatch(part):
                value, words = said.groups()
                changed = values[name] != usual.get(name)
                if changed if value is None else str(values[name]) == value:
                    yield name, words
