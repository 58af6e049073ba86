"""One line of what `distill doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        what: what was checked.
        state: "ok", "warn" (slower, or fewer choices) or "broken" (runs are not possible).
        found: what was found.
        next: what to do, unless it is ok.
    """

    what: str
    state: str
    found: str
    next: str = ""
