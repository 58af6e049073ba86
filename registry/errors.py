"""Errors that a user can act on: what was wrong, what was expected, what to do next.

Every mistake of a user or of a plugin author is an `ExplainedError`; a command line prints its
three lines and no traceback. Broken invariants of our own are assertions instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

MANY, FEW = 12, 5  # of more names than MANY, an error lists FEW


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
        return "\n".join(map(visible, lines))


def visible(text: str, but: str = "") -> str:
    r"""Write characters that would steer a terminal as escapes; what users type and names of files
    may have them.

    Args:
        text: may have line ends, too, which are escaped.
        but: characters that stay.

    >>> print(visible("caf\u00e9\n\x1b[2J"))
    café\n\x1b[2J
    """
    return "".join(each if each.isprintable() or each in but else repr(each)[1:-1] for each in text)


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says; its type if it says nothing.

    >>> first_line(ValueError("one\\ntwo")), first_line(KeyError())
    ('one', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def raised_by(who: str) -> Iterator[None]:
    """Put the name of a component on what its code raises; a user's mistake passes unchanged.

    Args:
        who: the name of the component in messages.
    """
    try:
        yield
    except (ExplainedError, KeyboardInterrupt):
        raise
    except BaseException as error:
        error.add_note(f"raised by {who}")
        raise


class UnknownNameError(ExplainedError, KeyError):
    """An unknown name; the message suggests the nearest valid one."""

    def __init__(
        self, kind: str, name: str, *, known: Iterable[str], next: str = "", note: str = ""
    ) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        self.nearest = nearest(name, self.known)
        hint = f" Did you mean '{self.nearest}'{note}?" if self.nearest else ""
        choices = few_of(self.known, name) or "(none is installed)"
        super().__init__(
            f"no {kind} named '{name}'.{hint}", expected=f"one of: {choices}.", next=next
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


def few_of(known: Sequence[str], name: str) -> str:
    """Return the known names, or of many those that are closest to a mistyped one.

    >>> few_of(["poco", "random"], "pocco")
    'poco, random'
    >>> few_of([*"abcdefghijklmnopq", "poco", "pico"], "pocco")
    'poco, pico, p, o, c and 14 more'
    """
    if len(known) <= MANY:
        return ", ".join(known)
    close = difflib.get_close_matches(name, known, n=FEW, cutoff=0.0)
    return f"{', '.join(close)} and {len(known) - len(close)} more"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is closest to a mistyped one, or None.

    >>> nearest("pocco", ["poco", "random"])
    'poco'
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
