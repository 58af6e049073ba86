"""One line of what `distill doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        what: the thing that was looked at.
        state: "ok", "warn" (slower, or less can be chosen) or "broken" (no run can be made).
        found: what was found.
        next: what to do, unless it is ok.
    """

    what: str
    state: str
    found: str
    next: str = ""
