"""The API reference: every public name, at home, with its signature and its text."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from typing import Any

from distill_core.config.describe import rows
from distill_core.plugin import CONTRACTS, TOOLS, Table
from registry import Options

MODULES = {
    "plugin": ("distill_core.plugin", "For plugins"),
    "testing": ("distill_core.testing", "Conformance checks"),
    "distill_core": ("distill_core", "Python"),
    "registry": ("registry", "The registry"),
}


TIERS = (
    (
        "Tier 1: contracts",
        "What a component implements, is given and gives back. These names and what they do stay "
        "as they are through version 1 of the plugin API. ``Engine`` and ``Experts`` are "
        "protocols: a component is given objects that have these methods, and makes none itself.",
        CONTRACTS,
    ),
    (
        "Tier 2: tools",
        "What our own components use, for yours to use too. They may change in a minor version of "
        "the plugin API; the changelog says so.",
        TOOLS,
    ),
)


def api_pages() -> dict[str, str]:
    """Return a page for each public module, by file name."""
    return {page: _page(module, title) for page, (module, title) in MODULES.items()}


def public_names(module: str) -> dict[str, Any]:
    """Return everything that a module promises, by name."""
    loaded = importlib.import_module(module)
    return {name: getattr(loaded, name) for name in loaded.__all__}


def _page(module: str, title: str) -> str:
    text = inspect.getdoc(importlib.import_module(module)) or ""
    parts = [_heading(f"{title}: {module}", "="), f"{text}\n"]
    if module == MODULES["plugin"][0]:
        parts += [_tier(*tier) for tier in TIERS]
    else:
        parts += _entries(module, public_names(module), underline="-")
    return "\n".join(parts)


def _tier(title: str, promise: str, table: Table) -> str:
    """Return the part of the page for plugins that describes one tier, by kind."""
    module = MODULES["plugin"][0]
    parts = [_heading(title, "-"), f"{promise}\n"]
    for kind, homes in table.items():
        names = [name for found in homes.values() for name in found]
        parts += [_heading(kind, "~"), *_entries(module, names, underline="^")]
    return "\n".join(parts)


def _entries(module: str, names: Iterable[str], *, underline: str) -> list[str]:
    """Return an entry under a heading for each name, in the order of the alphabet."""
    values = public_names(module)
    return [
        _heading(name, underline) + "\n" + _entry(module, name, values[name])
        for name in sorted(names, key=str.lower)
    ]


def _fields(value: Any) -> str:
    """Return the fields of a model: type, default, bounds, unit, text and source of each."""
    if not (isinstance(value, type) and issubclass(value, Options) and value.model_fields):
        return ""
    lines = [f"Fields of ``{value.__name__}``:\n"]
    for option, what, default, bounds, unit, text, source in rows(value, value.__name__):
        name = option.partition(".")[2]
        filling = default if default == "required" else f"default ``{default}``"
        facts = [f"``{what}``", filling, bounds and f"``{bounds}``", unit and f"unit: {unit}"]
        told = f"{text}. Source: {source}." if source else f"{text}."
        lines.append(f"``{name}``\n   {', '.join(filter(None, facts))}: {told}\n")
    return "\n".join(lines) + "\n"


def _heading(text: str, underline: str) -> str:
    return f"{text}\n{underline * len(text)}\n"


def _entry(module: str, name: str, value: Any) -> str:
    if isinstance(value, type) or inspect.isfunction(value):
        directive = "autoclass" if isinstance(value, type) else "autofunction"
        members = "   :members:\n" if isinstance(value, type) else ""
        # A name that two modules promise is indexed once, by the page for plugins.
        again = module != MODULES["plugin"][0] and name in public_names(MODULES["plugin"][0])
        index = "   :no-index:\n" if again else ""
        return (
            f"``from {module} import {name}``\n\n"
            f".. {directive}:: {value.__module__}.{value.__qualname__}\n{members}{index}\n"
            f"{_fields(value)}"
        )
    return (
        f"``{module}.{name}``: ``{value!r}``.\n"
        if isinstance(value, (str, tuple))
        else (f"``{module}.{name}``: a ``{type(value).__name__}``.\n")
    )
