"""What is installed: the plugins of distill, and the presets that they offer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from distill_core import hookspecs
from distill_core.hookspecs import Preset
from registry import Catalogue, Plugins, load_plugins


def discover(extra: Iterable[tuple[str, Any]] = (), only: Sequence[str] | None = None) -> Plugins:
    """Load every plugin of the entry-point group `distill`; see `registry.load_plugins`.

    Args:
        extra: more plugins as (name, object), for tests and notebooks.
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


def collect_presets(plugins: Plugins) -> Catalogue[Preset]:
    """Ask every plugin for its presets. Only on demand, because most commands need none.

    Raises:
        DuplicateNameError: two plugins offer one name.
    """
    return plugins.collect(hookspecs.PRESETS)


def preset_settings(name: str, plugins: Plugins) -> dict[str, Any]:
    """Return the settings of a preset, as a configuration file would have them.

    Raises:
        UnknownNameError: there is no such preset.
        DuplicateNameError: two plugins offer one name.
    """
    return copy.deepcopy(dict(collect_presets(plugins)[name].config))
