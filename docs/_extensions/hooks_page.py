"""The page of hooks: what a plugin may implement, from the specifications themselves."""

from __future__ import annotations

import inspect
from types import FunctionType

from distill_core import hookspecs


def hooks() -> list[FunctionType]:
    """Return every hook specification, in the order of the file."""
    marker = f"{hookspecs.GROUP}_spec"
    return [
        value
        for value in vars(hookspecs).values()
        if isinstance(value, FunctionType) and hasattr(value, marker)
    ]


def hooks_page() -> str:
    """Write the page."""
    kinds = {kind.hook: kind for kind in hookspecs.KINDS}
    parts = ["# Hooks\n", f"{inspect.getdoc(hookspecs)}\n"]
    for hook in hooks():
        parts += [
            f"## {hook.__name__}\n",
            f"```{{eval-rst}}\n.. autofunction:: {hook.__module__}.{hook.__name__}\n```\n",
        ]
        if kind := kinds.get(hook.__name__):
            parts.append(
                f"Chosen with `--{kind.option}`. Contract: "
                f"{{py:class}}`~{kind.base.replace(':', '.')}`. Installed: "
                f"[{kind.name}s](components/{kind.name}.md).\n"
            )
    return "\n".join(parts)
