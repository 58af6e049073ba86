"""Components that are checked and made: options first, then the factory, then what it made."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.catalogue import Catalogue, Entry, Kind
from registry.component import Component
from registry.errors import ContractError, raised_by

if TYPE_CHECKING:
    from registry.options import Options


class Components(Catalogue[Component]):
    """The components of one kind, which can be checked and made; sorted by name."""

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def check(self, name: str, settings: Mapping[str, Any]) -> Options:
        """Check settings against the component's options, without making it.

        Raises:
            UnknownNameError, OptionError: as the names say.
        """
        from registry.options import check_options

        model = self.options(name)
        explained = self.kind.hints.options.format(kind=self.kind.name, name=name)
        return check_options(model, settings, where=self.kind.option, explained=explained)

    def options(self, name: str) -> type[Options]:
        """Return the options model of a component, with those that all of its kind have.

        Raises:
            UnknownNameError: there is no such component.
            ContractError: an import string names nothing.
        """
        from registry.options import joined

        entry = self.entry(name)
        own: type[Options] = self.call(name, entry.item.resolve_options, _offered_by(entry))
        return joined(own, self.common_options()) if self.kind.common else own

    def common_options(self) -> type[Options]:
        """Return the options that all components of the kind have; `Options` itself for none."""
        from registry.options import Options

        return _import(self.kind.common) if self.kind.common else Options

    def create(self, name: str, settings: Mapping[str, Any] | Options, **runtime: Any) -> Any:
        """Make a component from its settings and what the run gives it.

        Args:
            name: a name of this catalogue.
            settings: raw settings, or options that were checked already.
            runtime: objects of the run, passed to the factory as keywords.

        Raises:
            UnknownNameError, OptionError: as the names say.
            ContractError: the factory made something other than the kind promises.
        """
        return self.builder(name, settings)(**runtime)

    def builder(self, name: str, settings: Mapping[str, Any] | Options) -> Builder:
        """Look up a component once, to make it as often as needed.

        Args:
            name: a name of this catalogue.
            settings: raw settings, or options that were checked already.

        Raises:
            UnknownNameError, OptionError: as the names say.
            ContractError: an import string of the component names nothing.
        """
        entry = self.entry(name)
        options = self.check(name, settings) if isinstance(settings, Mapping) else settings
        factory = self.call(name, entry.item.resolve_factory, _offered_by(entry))
        return Builder(self.kind, entry, options, factory, _import(self.kind.base))

    def call(self, name: str, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call code of a component; an exception leaves with the component's name on it.

        A user's mistake (`ExplainedError`) passes unchanged.
        """
        with raised_by(_who(self.kind, self.entry(name))):
            return function(*args, **kwargs)


@dataclass(frozen=True)
class Builder:
    """A component with its options checked and its import strings resolved.

    Attributes:
        kind: what it is.
        entry: the component and its provider.
        options: passed to the factory every time.
    """

    kind: Kind
    entry: Entry[Component]
    options: Options
    _factory: Callable[..., Any]
    _base: type

    def __str__(self) -> str:
        return f"{self.kind.name} '{self.entry.item.name}' of {self.entry.provider}"

    def __call__(self, **runtime: Any) -> Any:
        """Make one from what the run gives it.

        Raises:
            ContractError: the factory made something other than the kind promises.
        """
        made = self.call(self._factory, self.options, **runtime)
        if not isinstance(made, self._base):
            fix = f"fix plugin '{self.entry.provider.entry_point}'"
            raise ContractError(
                f"{self} made a {type(made).__name__}.",
                expected=f"an instance of {self._base.__name__}.",
                next=f"{'; '.join(filter(None, (fix, self.kind.hints.contract)))}.",
            )
        return made

    def takes(self, name: str) -> bool:
        """Return whether the factory has a parameter of this name, for what not all need."""
        try:
            return name in inspect.signature(self._factory).parameters
        except (TypeError, ValueError):  # a factory in C tells nothing
            return False

    def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call code of the component; an exception leaves with the component's name on it.

        A user's mistake (`ExplainedError`) passes unchanged.
        """
        with raised_by(_who(self.kind, self.entry)):
            return function(*args, **kwargs)


def _who(kind: Kind, entry: Entry[Component]) -> str:
    return f"{kind.name} '{entry.item.name}' of plugin {entry.provider}"


def _offered_by(entry: Entry[Component]) -> str:
    return f"plugin {entry.provider}"


def _import(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
