"""Paths in a sweep file, and the data of cells that have been moved since these began."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_core.config.places import path_options, places_of
from distill_core.config.run_config import RunConfig, default_choice
from distill_core.hookspecs import BY_OPTION
from registry import InputError, OptionError, Plugins


def from_file(
    settings: Mapping[str, Any], file: Path, chosen: Mapping[str, Any], plugins: Plugins
) -> dict[str, Any]:
    """Return settings of a file, where relative paths of components start from its folder.

    Args:
        settings: as a configuration has them.
        file: where they are written.
        chosen: names the components; options of one that does not exist are left alone.
        plugins: what is installed; says which options are paths.

    Raises:
        InputError: nothing is there, but the path leads somewhere from the current folder.
    """
    tables = dict(settings.get("options", {}))
    for prefix, kind in BY_OPTION.items():
        name = chosen.get(prefix, default_choice(prefix))
        given = tables.get(prefix)
        if isinstance(given, Mapping) and name in plugins[kind.name]:
            paths = path_options(plugins[kind.name][name].resolve_options())
            tables[prefix] = {
                option: _placed(value, file, f"{prefix}.{option}") if option in paths else value
                for option, value in given.items()
            }
    return {**settings, "options": tables} if tables else dict(settings)


def same_place(old: Any, new: Any) -> bool:
    """Say whether two places are the same; a relative path starts from the current folder."""
    if isinstance(old, str) and isinstance(new, str):
        return Path(old).expanduser().absolute() == Path(new).expanduser().absolute()
    return bool(old == new)


def moved(old: RunConfig, new: RunConfig) -> bool:
    """Say whether the data of a run have another place in a new configuration of it."""
    before, after = (config.component("dataset")["options"] for config in (old, new))
    paths = path_options(type(new.options["dataset"]))
    return any(not same_place(before.get(name), after.get(name)) for name in paths)


def check_places(overrides: Sequence[str], config: RunConfig, axes: Collection[str]) -> None:
    """Refuse an override of anything but a place of the data, or of what the grid varies.

    Raises:
        OptionError: naming it.
    """
    known = places_of(config)
    for pair in overrides:
        name = pair.partition("=")[0].strip()
        if name not in known or name in axes:
            why = "is an axis of the grid" if name in axes else "is not a place of the data"
            raise OptionError(
                f"-o {pair} cannot be changed here: it {why}.",
                expected=f"one of: {', '.join(known) or 'none, since the data have no place'}.",
                next="write it into the file of the sweep.",
            )


def check_moved(cells: Sequence[tuple[Path, RunConfig]], plugins: Plugins) -> None:
    """Refuse places that do not have the data that the cells have used; each is read once.

    Args:
        cells: run directories of cells that have begun, with the configurations that they have now.
        plugins: what is installed.

    Raises:
        InputError: the data are others, or a cell does not say which it has used.
    """
    together: dict[str, list[tuple[Path, RunConfig]]] = {}
    for run_dir, config in cells:
        key = json.dumps(config.component("dataset"), sort_keys=True)
        together.setdefault(key, []).append((run_dir, config))
    for group in together.values():
        _check_group(group, plugins)


def _check_group(group: Sequence[tuple[Path, RunConfig]], plugins: Plugins) -> None:
    from distill_core.data.identity import Identity
    from distill_core.data.prepare import check_raw
    from distill_core.run.checkpoint import data_of
    from distill_core.run.known_data import only
    from distill_core.run.plan import Plan

    raw = Plan.of(group[0][1], plugins, {"dataset"}).raw_data()
    check_raw(raw)
    for run_dir, config in group:
        known = data_of(run_dir)
        if known is None:
            raise InputError(
                f"{run_dir} does not say which data it has used, so that no other place of them "
                "can be accepted.",
                expected="the place of the data as it was, or a run with their fingerprint.",
                next="name the old place, or delete that run to have it made again.",
            )
        only(known, run_dir, config)(Identity.of_raw(raw, config.data, config.seed))


def _placed(value: Any, file: Path, option: str) -> Any:
    if not isinstance(value, str) or not value or Path(value).expanduser().is_absolute():
        return value
    found = (file.parent / value).absolute()
    if not found.exists() and Path(value).exists():
        raise InputError(
            f"{file}: {option} = {value!r} leads to {found}, where nothing is.",
            expected="a path that starts from the folder of the file, wherever the command is run.",
            next=f"write {option} = '{Path(value).absolute()}'.",
        )
    return str(found)
