"""Rows of networks: the settings of a run with other backbones, by the names that users type."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from distill_core.config.named_models import BACKBONE
from distill_core.config.run_config import CHOSEN, RunConfig, resolve
from distill_core.config.settings import merge
from registry import Plugins


def rows_of(
    settings: Mapping[str, Any],
    names: Collection[str],
    plugins: Plugins,
    changed: Mapping[str, Any] | None = None,
    *,
    needed: Collection[str] = CHOSEN,
) -> dict[str, RunConfig]:
    """Return the configuration for each backbone, by its whole name, such as "timm:resnet18".

    Options of the run's own backbone are kept, unless `changed` sets them.

    Args:
        settings: of the run.
        names: backbones; empty: the run's own.
        plugins: what is installed.
        changed: settings that are the same for all.
        needed: as of `resolve`.
    """
    found = {}
    for name in names or (None,):
        chosen = {} if name is None else {BACKBONE: name}
        config = resolve(merge(settings, {**(changed or {}), **chosen}), plugins, needed=needed)
        found[config.named(BACKBONE)] = config
    return found


def judges_of(config: RunConfig, plugins: Plugins) -> dict[str, RunConfig]:
    """Return the configuration for each further backbone that judges a run, by its whole name."""
    if not config.evaluate.backbones:
        return {}
    settings = config.model_dump(mode="json", exclude_none=True)
    rows = rows_of(settings, config.evaluate.backbones, plugins)
    rows.pop(config.named(BACKBONE), None)
    return rows
