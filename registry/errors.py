"""Errors that a user can act on: what was wrong, what was expected, what to do next.

Every mistake of a user or of a plugin author is an `ExplainedError`; a command line prints its
three lines and no traceback. Broken invariants of our own are assertions instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ExplainedError(Exception):
    """A mistake with its explanation, in three parts.

    Args:
        what: what was wrong, with the offending value.
        expected: what would have been right, with the alternatives.
        next: what to do now.
    """

    def __init__(self, what: str, *, expected: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.next = next

    def __str__(self) -> str:
        lines = [self.what]
        if self.expected:
            lines.append(f"Expected {self.expected}")
        if self.next:
            lines.append(f"Next: {self.next}")
        return "\n".join(lines)


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says; its type if it says nothing.

    >>> first_line(ValueError("one\\ntwo")), first_line(KeyError())
    ('one', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class UnknownNameError(ExplainedError, KeyError):
    """An unknown name; the message suggests the nearest valid one."""

    def __init__(
        self, kind: str, name: str, *, known: Iterable[str], next: str = "", note: str = ""
    ) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        self.nearest = nearest(name, self.known)
        hint = f" Did you mean '{self.nearest}'{note}?" if self.nearest else ""
        choices = ", ".join(self.known) or "(none is installed)"
        super().__init__(
            f"no {kind} named '{name}'.", expected=f"one of: {choices}.{hint}", next=next
        )


class OptionError(ExplainedError, ValueError):
    """A setting that is unknown, of the wrong type or out of its bounds."""


class InputError(ExplainedError, ValueError):
    """An input (file, folder, data, geometry) that cannot be used."""


class DuplicateNameError(ExplainedError, ValueError):
    """Two providers offer something of one kind under one name."""

    def __init__(
        self,
        kind: str,
        name: str,
        providers: tuple[str, str],
        *,
        next: str = "uninstall one of them.",
    ) -> None:
        self.kind, self.name, self.providers = kind, name, providers
        super().__init__(
            f"two {kind}s are named '{name}': one from {providers[0]}, one from {providers[1]}.",
            expected="one provider for every name.",
            next=next,
        )


class ContractError(ExplainedError, TypeError):
    """A component breaks the contract of its kind; the plugin is at fault."""


class EnvironmentFault(ExplainedError, OSError):
    """The machine refused something (disk full, no permission); no input is wrong."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is closest to a mistyped one, or None.

    >>> nearest("pocco", ["poco", "random"])
    'poco'
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return found[0] if found else None
