"""The API reference: every public name, at home, with its signature and its text."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

MODULES = {
    "plugin": ("distill_core.plugin", "For plugins"),
    "testing": ("distill_core.testing", "Conformance checks"),
    "distill_core": ("distill_core", "Python"),
    "registry": ("registry", "The registry"),
}


def api_pages() -> dict[str, str]:
    """Return a page for each public module, by file name."""
    return {page: _page(module, title) for page, (module, title) in MODULES.items()}


def public_names(module: str) -> dict[str, Any]:
    """Return everything that a module promises, by name."""
    loaded = importlib.import_module(module)
    return {name: getattr(loaded, name) for name in loaded.__all__}


def _page(module: str, title: str) -> str:
    heading = f"{title}: {module}"
    text = inspect.getdoc(importlib.import_module(module)) or ""
    parts = [f"{heading}\n{'=' * len(heading)}\n", f"{text}\n"]
    for name, value in sorted(public_names(module).items(), key=lambda pair: pair[0].lower()):
        parts.append(f"{name}\n{'-' * len(name)}\n\n{_entry(module, name, value)}")
    return "\n".join(parts)


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
        )
    return (
        f"``{module}.{name}``: ``{value!r}``.\n"
        if isinstance(value, str)
        else (f"``{module}.{name}``: a ``{type(value).__name__}``.\n")
    )
