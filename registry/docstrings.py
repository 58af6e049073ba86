"""The literature a component comes from: read from its docstring without importing it."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

from registry.component import Component

_SOURCE = re.compile(r"^Sources?: (.+?)(?:\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


def source_of(component: Component) -> str:
    """Return the paragraph `Source: ...` of a component's class or function, or of its module.

    The module is not imported, because its imports may be slow. Empty if there is no paragraph.
    """
    target = component.factory
    if isinstance(target, str):
        module, _, name = target.partition(":")
    else:
        module, name = target.__module__, getattr(target, "__qualname__", "")
    for text in _docstrings(module, name):
        if found := _SOURCE.search(text):
            return " ".join(found[1].split())
    return ""


def _docstrings(module: str, name: str) -> list[str]:
    """Return the docstrings of a name in a module and of the module; none without a source file."""
    try:
        spec = importlib.util.find_spec(module)
        tree = ast.parse(Path(str(spec and spec.origin)).read_text(encoding="utf-8"))
    except (ImportError, ValueError, OSError, SyntaxError):
        return []
    own = [
        node
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name
    ]
    return [ast.get_docstring(node) or "" for node in (*own, tree)]
