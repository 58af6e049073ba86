"""What is installed: the plugins of distill, and the presets that they offer."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from distill_core import hookspecs
from distill_core.presets import Preset
from registry import (
    ContractError,
    DuplicateNameError,
    Failure,
    Plugins,
    Provider,
    UnknownNameError,
    load_plugins,
)


@dataclass(frozen=True)
class Presets:
    """The presets of all plugins.

    Attributes:
        presets: by name.
        providers: who offers each, by name.
        failures: plugins whose presets could not be had, and why.
    """

    presets: dict[str, Preset]
    providers: dict[str, Provider]
    failures: list[Failure]

    def find(self, name: str) -> Preset:
        """Look a name up.

        Raises:
            UnknownNameError: nothing has that name; the nearest one is suggested.
        """
        if name not in self.presets:
            failed = ", ".join(failure.provider.entry_point for failure in self.failures)
            raise UnknownNameError(
                "preset",
                name,
                known=self.presets,
                next="`distill presets` describes them, `distill plugins` shows what is "
                f"installed{f' (presets failed to load: {failed})' if failed else ''}.",
            )
        return self.presets[name]


def discover(extra: Iterable[tuple[str, Any]] = (), only: Sequence[str] | None = None) -> Plugins:
    """Load every plugin of the entry-point group `distill`; see `registry.load_plugins`.

    Args:
        extra: further plugins as (name, object), for tests and notebooks.
        only: names of entry points to load; None means all, or those that the environment
            variable DISTILL_LOAD_PLUGINS names.

    Raises:
        DuplicateNameError, UnknownNameError: as `load_plugins` says.
    """
    return load_plugins(
        hookspecs.GROUP,
        hookspecs,
        hookspecs.KINDS,
        api=hookspecs.API_VERSION,
        extra=extra,
        only=only,
    )


def presets(plugins: Plugins) -> dict[str, Preset]:
    """Return the presets of all plugins by name; see `collect_presets`.

    Raises:
        DuplicateNameError: two plugins offer one name.
    """
    return collect_presets(plugins).presets


def preset_settings(name: str, plugins: Plugins) -> dict[str, Any]:
    """Return the settings of a preset, as a configuration file would have them.

    Raises:
        UnknownNameError: there is no such preset.
        DuplicateNameError: two plugins offer one name.
    """
    return copy.deepcopy(dict(collect_presets(plugins).find(name).config))


def collect_presets(plugins: Plugins) -> Presets:
    """Ask every plugin for its presets. One whose hook fails is left out; the others stay.

    Raises:
        DuplicateNameError: two plugins offer one name.
    """
    found = Presets({}, {}, [])
    for provider in plugins.providers:
        try:
            offered = _presets_of(plugins, provider)
        except Exception as error:
            reason = f"presets: {type(error).__name__}: {error}"
            found.failures.append(Failure(provider, reason, traceback.format_exc()))
            continue
        for preset in offered:
            if preset.name in found.presets:
                owners = (str(found.providers[preset.name]), str(provider))
                raise DuplicateNameError("preset", preset.name, owners)
            found.presets[preset.name] = preset
            found.providers[preset.name] = provider
    return found


def _presets_of(plugins: Plugins, provider: Provider) -> list[Preset]:
    manager = plugins.manager
    plugin = manager.get_plugin(provider.entry_point)
    others = [other for other in manager.get_plugins() if other is not plugin]
    results = manager.subset_hook_caller("distill_presets", others)()
    offered = [preset for result in results for preset in result]
    for preset in offered:
        if not isinstance(preset, Preset):
            raise ContractError(
                f"hook distill_presets of {provider} returned {preset!r}.",
                expected="a list of distill_core.plugin.Preset.",
                next=f"mend plugin '{provider.entry_point}'.",
            )
    return offered
