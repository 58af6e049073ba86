"""Catalogues: the components of one kind, by name, each with the provider that offers it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.component import Component
from registry.errors import ContractError, DuplicateNameError, ExplainedError, UnknownNameError

if TYPE_CHECKING:
    from registry.options import Options


@dataclass(frozen=True)
class Provider:
    """Where a component comes from.

    Attributes:
        entry_point: the plugin's name.
        distribution: the package that declares it.
        version: of that package.
        module: the module that the entry point names.
        api: version of the plugin API that the plugin says it was written for.
    """

    entry_point: str
    distribution: str = "(not installed)"
    version: str = "0"
    module: str = "(in memory)"
    api: str = "(not stated)"

    def __str__(self) -> str:
        return f"{self.entry_point} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class Kind:
    """One kind of component.

    Args:
        name: singular word for messages, for example "orderer".
        hook: name of the pluggy hook that offers components of this kind.
        base: import string of the class or runtime protocol that each must be an instance of.
        option: prefix of its options on the command line, for example "orderer".
    """

    name: str
    hook: str
    base: str
    option: str


@dataclass(frozen=True)
class Entry:
    """A component and its provider."""

    component: Component
    provider: Provider


class Catalogue:
    """Components of one kind. Filled once while plugins load, then only read.

    Args:
        kind: what it holds.
        failed: plugins that did not load, named in the error for an unknown name.
    """

    def __init__(self, kind: Kind, failed: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self._failed = failed
        self._entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._entries)

    def add(self, component: Component, provider: Provider) -> None:
        """Add a component.

        Raises:
            DuplicateNameError: the name is taken; both providers are named.
            ContractError: the object is not a `Component`.
        """
        if not isinstance(component, Component):
            raise ContractError(
                f"hook {self.kind.hook} of {provider} returned {component!r}.",
                expected="a list of registry.Component.",
                next=f"mend plugin '{provider.entry_point}'.",
            )
        if component.name in self._entries:
            taken = self._entries[component.name].provider
            raise DuplicateNameError(self.kind.name, component.name, (str(taken), str(provider)))
        self._entries[component.name] = Entry(component, provider)

    def entry(self, name: str) -> Entry:
        """Look a name up.

        Raises:
            UnknownNameError: nothing has that name; the nearest one is suggested.
        """
        if name not in self._entries:
            failed = f" (failed to load: {', '.join(self._failed)})" if self._failed else ""
            raise UnknownNameError(
                self.kind.name,
                name,
                known=self._entries,
                next=f"`distill list {self.kind.name}` shows what can be chosen, "
                f"`distill plugins` what is installed{failed}.",
            )
        return self._entries[name]

    def check(self, name: str, settings: Mapping[str, Any]) -> Options:
        """Check settings against the component's options, without making it.

        Raises:
            UnknownNameError, OptionError: as the names say.
        """
        from registry.options import check_options

        model = self.entry(name).component.resolve_options()
        component = f"{self.kind.name} {name}"
        return check_options(model, settings, where=self.kind.option, component=component)

    def create(self, name: str, settings: Mapping[str, Any] | Options, **runtime: Any) -> Any:
        """Make a component from its settings and what the run gives it.

        Args:
            name: a name of this catalogue.
            settings: raw settings, or options that were checked already.
            runtime: objects of the run, passed to the factory as keywords.

        Raises:
            UnknownNameError, OptionError: as the names say.
            ContractError: the factory made something else than the kind promises.
        """
        entry = self.entry(name)
        options = self.check(name, settings) if isinstance(settings, Mapping) else settings
        made = self.attribute(name, entry.component.resolve_factory(), options, **runtime)
        base = _import(self.kind.base)
        if not isinstance(made, base):
            raise ContractError(
                f"{self.kind.name} '{name}' of {entry.provider} made a {type(made).__name__}.",
                expected=f"an instance of {base.__name__}.",
                next=f"mend plugin '{entry.provider.entry_point}'; "
                "distill_core.testing checks the contract of every kind.",
            )
        return made

    def attribute(self, name: str, call: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call code of a component; an exception leaves with the component's name on it.

        A user's mistake (`ExplainedError`) passes unchanged.
        """
        try:
            return call(*args, **kwargs)
        except ExplainedError:
            raise
        except Exception as error:
            provider = self._entries[name].provider
            error.add_note(f"raised by {self.kind.name} '{name}' of plugin {provider}")
            raise


def _import(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
