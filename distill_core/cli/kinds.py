"""Kinds of component as users type them."""

from __future__ import annotations

from distill_core.hookspecs import BY_OPTION, KINDS
from registry import Kind, UnknownNameError


def find_kind(text: str) -> Kind:
    """Return the kind for its name or option prefix, in singular or plural.

    Raises:
        UnknownNameError: there is no such kind.

    >>> find_kind("reprs").name
    'representation'
    """
    word = text.strip().lower()
    for kind in KINDS:
        if word in {kind.name, kind.option, f"{kind.name}s", f"{kind.option}s"}:
            return kind
    known = {kind.name for kind in KINDS} | {*BY_OPTION}
    raise UnknownNameError(
        "kind of component", text, known=known, next="`distill list` shows all kinds."
    )
