"""Catalogues: what plugins offer of one kind, by name, each with the plugin that offers it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.component import Component
from registry.errors import ContractError, DuplicateNameError, UnknownNameError

T = TypeVar("T")


@dataclass(frozen=True)
class Provider:
    """Where an entry comes from.

    Attributes:
        entry_point: the plugin's name.
        distribution: the package that declares it.
        version: of that package.
        module: the module that the entry point names.
        api: version of the plugin API that the plugin states it was written for.
    """

    entry_point: str
    distribution: str = "(not installed)"
    version: str = "0"
    module: str = "(in memory)"
    api: str = "(not stated)"

    def __str__(self) -> str:
        return f"{self.entry_point} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class Failure:
    """A plugin that could not be used, and why.

    Attributes:
        provider: the plugin.
        reason: the error, in one line or a few.
        traceback: of the error.
        place: file and line in the plugin's code; empty if the error is not there.
    """

    provider: Provider
    reason: str
    traceback: str
    place: str = ""


@dataclass(frozen=True)
class Hints:
    """What errors advise, in the words of the program; `{kind}` and `{name}` are filled in.

    Attributes:
        unknown: how users see which names there are.
        duplicate: what to do about one name from two plugins.
        options: what explains the options of a component; empty: nothing does.
        contract: what checks that a component keeps its contract; empty: nothing does.
    """

    unknown: str = "correct it"
    duplicate: str = "uninstall one of them"
    options: str = ""
    contract: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of thing that plugins offer by name.

    Args:
        name: singular word for messages, for example "orderer".
        hook: name of the pluggy hook that offers things of this kind.
        base: import string of the class or runtime protocol that what a component makes must be an
            instance of; empty where nothing is made.
        option: prefix of a component's options on the command line, for example "orderer".
        offers: class of what the hook returns a list of; it has a `name`.
        hints: what errors advise.
        common: import string of the `Options` that every component has beside its own, which
            win where a name is in both; empty for none.
    """

    name: str
    hook: str
    base: str = ""
    option: str = ""
    offers: type = Component
    hints: Hints = Hints()
    common: str = ""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """What a plugin offers under a name, and the plugin."""

    item: T
    provider: Provider


class Catalogue(Mapping[str, T]):
    """What plugins offer of one kind, by name, in the order in which it is offered.

    Filled once while plugins load, then only read.

    Args:
        kind: what it holds.
        failures: plugins that could not be asked; the error for an unknown name lists them.
    """

    def __init__(self, kind: Kind, failures: Sequence[Failure] = ()) -> None:
        self.kind = kind
        self.failures = failures
        self._entries: dict[str, Entry[T]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        return self.entry(name).item

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._entries)

    def add(self, item: T, provider: Provider) -> None:
        """Add an entry.

        Raises:
            DuplicateNameError: the name is taken; both providers are named.
            ContractError: the object is not what the kind's hook offers.
        """
        kind = self.kind
        if not isinstance(item, kind.offers):
            raise ContractError(
                f"hook {kind.hook} of {provider} returned {item!r}.",
                expected=f"a list of {kind.offers.__name__}.",
                next=f"fix plugin '{provider.entry_point}'.",
            )
        name: str = item.name  # type: ignore[attr-defined]
        if name in self._entries:
            owners = (str(self._entries[name].provider), str(provider))
            raise DuplicateNameError(kind.name, name, owners, next=f"{kind.hints.duplicate}.")
        self._entries[name] = Entry(item, provider)

    def entry(self, name: str) -> Entry[T]:
        """Look a name up.

        Raises:
            UnknownNameError: nothing has that name; the nearest one is suggested.
        """
        if name not in self._entries:
            hint = self.kind.hints.unknown.format(kind=self.kind.name, name=name)
            failed = ", ".join(failure.provider.entry_point for failure in self.failures)
            raise UnknownNameError(
                self.kind.name,
                name,
                known=self._entries,
                next=f"{hint}{f' (failed to load: {failed})' if failed else ''}.",
            )
        return self._entries[name]
