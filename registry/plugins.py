"""Discovery: load entry points one by one, keep failures, check hooks, fill catalogues."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass, field, replace
from importlib import metadata
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from registry.api import check_api
from registry.blame import place_in, provider_of
from registry.catalogue import Catalogue, Failure, Kind, Provider
from registry.components import Components
from registry.errors import ContractError, UnknownNameError

AnyCatalogue = TypeVar("AnyCatalogue", bound=Catalogue[Any])


@dataclass(frozen=True)
class Plugins:
    """What was discovered. A value: made by `load_plugins`, passed on, never global."""

    manager: pluggy.PluginManager
    catalogues: dict[str, Components]
    providers: list[Provider] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def __getitem__(self, kind: str) -> Components:
        return self.catalogues[kind]

    def provided_by(self, provider: Provider) -> dict[str, list[str]]:
        """Return the names that a provider offers, by kind."""
        offered = {
            kind: [name for name in catalogue if catalogue.entry(name).provider == provider]
            for kind, catalogue in self.catalogues.items()
        }
        return {kind: names for kind, names in offered.items() if names}

    def collect(self, kind: Kind) -> Catalogue[Any]:
        """Ask every plugin for what it offers of a further kind.

        A plugin whose hook fails is kept in the catalogue's `failures`; what it offers of other
        kinds stays.

        Raises:
            DuplicateNameError: two plugins offer one name.
        """
        offered: list[tuple[Provider, list[Any]]] = []
        failures: list[Failure] = []
        for provider in self.providers:
            plugin = self.manager.get_plugin(provider.entry_point)
            try:
                with _aside():
                    offered.append((provider, _ask(self.manager, plugin, provider, kind)))
            except BaseException as error:
                if type(error) is KeyboardInterrupt:
                    raise
                failures.append(_failure(provider, error, f"{kind.name}s: "))
        return _fill(Catalogue(kind, failures), offered)


def load_plugins(
    group: str,
    hookspecs: ModuleType,
    kinds: Sequence[Kind],
    *,
    api: str | None = None,
    extra: Iterable[tuple[str, Any]] = (),
    only: Sequence[str] | None = None,
) -> Plugins:
    """Load every plugin of an entry-point group and fill one catalogue per kind.

    A plugin that cannot be imported, or does not fit the hooks, is left out as a whole and listed
    in `failures`; the others still load.

    Args:
        group: the entry-point group, also the name of the pluggy project.
        hookspecs: module with the hook specifications.
        kinds: the kinds of component, each with its hook.
        api: version of the plugin API, MAJOR.MINOR; a plugin whose attribute `<GROUP>_API` names
            one that does not fit is a failure. None: nothing is compared.
        extra: further plugins as (name, object), for tests and notebooks.
        only: names of entry points to load; None means those in the environment variable
            `<GROUP>_LOAD_PLUGINS` (comma separated), or all where it is not set.

    Raises:
        DuplicateNameError: two plugins offer one name.
        UnknownNameError: `only` names a plugin that is not installed.
    """
    manager = pluggy.PluginManager(group)
    manager.add_hookspecs(hookspecs)
    found = [(provider_of(point), point) for point in _entry_points(group, only)]
    offered = [(Provider(name), plugin) for name, plugin in extra]
    failures: list[Failure] = []
    loaded: list[tuple[Provider, dict[str, list[Any]]]] = []
    for provider, source in [*found, *offered]:
        try:
            with _aside():
                plugin = source.load() if isinstance(source, metadata.EntryPoint) else source
                if api is not None:
                    attribute = f"{group.upper()}_API"
                    check_api(plugin, provider, attribute=attribute, offered=api)
                    stated = getattr(plugin, attribute, None) or provider.api
                    provider = replace(provider, api=stated)  # noqa: PLW2901
                loaded.append((provider, _collect(manager, plugin, provider, kinds)))
        except BaseException as error:
            if type(error) is KeyboardInterrupt:  # the user's
                raise
            failures.append(_failure(provider, error))
    catalogues = {
        kind.name: _fill(
            Components(kind, failures), [(provider, own[kind.name]) for provider, own in loaded]
        )
        for kind in kinds
    }
    return Plugins(manager, catalogues, [provider for provider, _ in loaded], failures)


def _collect(
    manager: pluggy.PluginManager, plugin: Any, provider: Provider, kinds: Sequence[Kind]
) -> dict[str, list[Any]]:
    """Register one plugin and ask it for its components; undo the registration if it fails."""
    name = manager.register(plugin, provider.entry_point)
    if name is None:
        raise ContractError(
            f"plugin '{provider.entry_point}' was registered twice.",
            expected="one entry point for each module.",
            next="remove one of them.",
        )
    try:
        manager.check_pending()
        return {kind.name: _ask(manager, plugin, provider, kind) for kind in kinds}
    except BaseException:
        manager.unregister(name=provider.entry_point)
        raise


def _ask(manager: pluggy.PluginManager, plugin: Any, provider: Provider, kind: Kind) -> list[Any]:
    """Return what one plugin offers of a kind.

    Raises:
        DuplicateNameError, ContractError: it offers a name twice, or something of another class.
    """
    others = [other for other in manager.get_plugins() if other is not plugin]
    results = manager.subset_hook_caller(kind.hook, others)()
    offered = [item for result in results for item in result]
    _fill(Catalogue(kind), [(provider, offered)])
    return offered


def _fill(catalogue: AnyCatalogue, offered: Iterable[tuple[Provider, list[Any]]]) -> AnyCatalogue:
    for provider, items in offered:
        for item in items:
            catalogue.add(item, provider)
    return catalogue


def _failure(provider: Provider, error: BaseException, where: str = "") -> Failure:
    """Describe the error that is being handled."""
    try:
        text = str(error)
    except Exception as worse:
        text = f"({type(worse).__name__} when asked for its text)"
    reason = f"{where}{type(error).__name__}: {text}"
    return Failure(provider, reason, traceback.format_exc(), place_in(error, provider.module))


def _aside() -> AbstractContextManager[object]:
    """Keep what a plugin prints away from standard output, which has results for programs."""
    return redirect_stdout(sys.stderr)


def _entry_points(group: str, only: Sequence[str] | None) -> list[metadata.EntryPoint]:
    points = sorted(metadata.entry_points(group=group), key=lambda point: point.name)
    variable = f"{group.upper()}_LOAD_PLUGINS"
    if only is None and os.environ.get(variable, "").strip():
        only = [name.strip() for name in os.environ[variable].split(",") if name.strip()]
    if only is None:
        return points
    known = {point.name for point in points}
    for name in only:
        if name not in known:
            raise UnknownNameError(
                "plugin", name, known=known, next=f"correct {variable} or install the plugin."
            )
    return [point for point in points if point.name in only]
