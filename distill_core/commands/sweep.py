"""A sweep: a grid over any options, and seeds; every cell is an ordinary run.

    OUT/configs/CELL.toml    the configuration of a cell
    OUT/logs/CELL.log        the output of its process
    OUT/runs/CELL            its run directory
    OUT/results.csv, .json   the results

The run directories show what is done, so a sweep is resumed by starting it again.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_core.artefact.contents import CONFIG
from distill_core.artefact.evaluations import read_evaluations
from distill_core.artefact.manifest import judged_manifest
from distill_core.commands.sweep_paths import check_moved, check_places, from_file, moved
from distill_core.config.discovery import preset_settings
from distill_core.config.effects import check_effects
from distill_core.config.networks import judges_of
from distill_core.config.places import places_of
from distill_core.config.run_config import RunConfig, resolve
from distill_core.config.settings import (
    MACHINE,
    flatten,
    merge,
    parse_overrides,
    read_settings,
    set_option,
    undotted,
)
from distill_core.run.directory import settings_of
from registry import ExplainedError, InputError, OptionError, Plugins, UnknownNameError

KEYS = ("preset", "config", "base", "grid", "seeds")
LONGEST_NAME = 120


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: of its directory; gives its place in the grid.
        axes: its value on each axis, in the order of the file, without the seed.
        config: the resolved configuration.
        run_dir: its run directory.
        judges: names of the further networks that judge it.
    """

    name: str
    axes: dict[str, str]
    config: RunConfig
    run_dir: Path
    judges: tuple[str, ...] = ()

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; empty if the cell has no results yet."""
        return judged_manifest(self.run_dir)

    def state(self) -> str:
        """Return "done", "interrupted" (it has a checkpoint) or "new"."""
        if is_done(self.run_dir, self.judges):
            return "done"
        from distill_core.run.checkpoint import has_checkpoint

        return "interrupted" if has_checkpoint(self.run_dir) else "new"


def is_done(run_dir: Path, judges: Collection[str]) -> bool:
    """Say whether a run has its results, those of all further networks too: a run is ended now and
    then while these judge.

    Args:
        run_dir: the run.
        judges: names of the further networks.

    Raises:
        InputError: what one of them found is damaged.
    """
    if not (manifest := judged_manifest(run_dir)):
        return False
    found = read_evaluations(run_dir, manifest.get("outer_steps")) if judges else []
    return {*judges} <= {each.settings.get("backbone") for each in found}


def read_sweep(
    path: Path, out: Path, plugins: Plugins, overrides: Sequence[str] = ()
) -> list[Cell]:
    """Read a sweep and resolve all its cells; nothing is written.

    Relative paths in the file start from its folder.

    Args:
        path: the TOML file.
        out: the directory of the sweep.
        plugins: what is installed.
        overrides: places of the data, as `-o` names them, instead of those in the file.

    Raises:
        ExplainedError: the file or one of its cells is wrong, or a finished cell in `out` was
            made with other settings or, at another place, with other data.
    """
    table = read_settings(path)
    for key in table:
        if key not in KEYS:
            raise UnknownNameError("entry of a sweep", key, known=KEYS, next=f"correct {path}.")
    weaker, own = _base(table, path, plugins)
    base, places = merge(weaker, own), parse_overrides(overrides)
    axes = {name: _axis(name, values) for name, values in _flat(table.get("grid", {}), "grid")}
    cells: list[Cell] = []
    for choice in itertools.product(*axes.values()):
        labels = dict(zip(axes, (label for label, _ in choice), strict=True))
        stronger = _settings(option for _, options in choice for option in options.items())
        for seed in _seeds(table, base):
            name = cell_name({**labels, "seed": str(seed)})
            try:
                chosen = merge(base, stronger)
                parts = [from_file(part, path, chosen, plugins) for part in (own, stronger)]
                settings = functools.reduce(merge, (*parts, {"seed": seed}, places), weaker)
                config = resolve(settings, plugins)
                check_effects(config, *parts)
                check_places(overrides, config, _varied(axes))
            except ExplainedError as error:
                error.what = f"cell {name}: {error.what}"
                error.next = f"correct {path}, whose names are those of -o ({error.next[:-1]})."
                raise
            judges = tuple(judges_of(config, plugins))
            cells.append(Cell(name, labels, config, out / "runs" / name, judges))
    _check_names(cells, path)
    elsewhere = [
        cell for cell in cells if _check_unchanged(cell, plugins) and cell.state() != "new"
    ]
    check_moved([(cell.run_dir, cell.config) for cell in elsewhere], plugins)
    return cells


def cell_name(axes: Mapping[str, str]) -> str:
    """Return a name for a directory.

    >>> cell_name({"algo": "dm", "repr.patches": "2x5", "seed": "0"})
    'algo=dm,repr.patches=2x5,seed=0'
    """
    exact = ",".join(f"{axis}={value}" for axis, value in axes.items())
    name = re.sub(r"[^A-Za-z0-9_.,=+-]+", "-", exact)
    if name == exact and len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(exact.encode()).hexdigest()[:8]
    return f"{name[:LONGEST_NAME]}-{digest}"


def _varied(axes: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]) -> set[str]:
    """Return the options that differ between cells."""
    return {option for values in axes.values() for _, options in values for option in options}


def _base(
    table: Mapping[str, Any], path: Path, plugins: Plugins
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return what all cells share: settings of a preset or another file, and those of this one."""
    preset, config = table.get("preset"), table.get("config")
    if preset is not None and config is not None:
        raise _wrong(path, "preset and config were both given", "one of them")
    base: dict[str, Any] = {}
    if preset is not None:
        # Several processes of a preset would share the cores with the other cells.
        base = {**preset_settings(str(preset), plugins), "procs": 1}
    elif config is not None:
        base = undotted(read_settings(path.parent / str(config)))
    own = table.get("base", {})
    if not isinstance(own, Mapping):
        raise _wrong(path, "base is not a table", "[base] with the keys of a configuration file")
    return base, undotted(own)


def _seeds(table: Mapping[str, Any], base: Mapping[str, Any]) -> list[int]:
    seeds = table.get("seeds", [base.get("seed", 0)])
    right = isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)
    if not right or len(set(seeds)) != len(seeds):
        raise OptionError(
            f"seeds = {seeds!r} is not valid.",
            expected="a list of different whole numbers, for example seeds = [0, 1, 2].",
            next="correct it in the file of the sweep.",
        )
    return list(seeds)


def _flat(table: object, where: str) -> Iterator[tuple[str, Any]]:
    """Accept `algo.window = [...]`, a table in TOML, and `"algo.window" = [...]`, which is not."""
    if not isinstance(table, Mapping):
        raise OptionError(
            f"{where} = {table!r} is not a table.",
            expected="[grid] with lists, for example ipc = [0.5, 1.0].",
            next="correct it in the file of the sweep.",
        )
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", each) for key, each in _flat(value, name))
        else:
            yield name, value


def _axis(name: str, values: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return for each value of an axis its label and its options."""
    if not isinstance(values, list) or not values:
        raise OptionError(
            f"grid.{name} = {values!r} is not an axis.",
            expected=f"a list of values, for example {name} = [1, 2], or of tables with several "
            "options each.",
            next="correct the file; what is the same in all cells belongs under [base].",
        )
    if not all(isinstance(value, Mapping) for value in values):
        return [(_label(value), {name: value}) for value in values]
    axis = []
    for value in values:
        options = {option: each for option, each in _flat(value, name) if option != "name"}
        text = "+".join(f"{option}-{_label(each)}" for option, each in options.items())
        axis.append((str(value.get("name", text)), options))
    return axis


def _settings(options: Iterator[tuple[str, Any]]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in options:
        if "." in name:
            set_option(settings, name, value)
        elif name in RunConfig.model_fields and name != "seed":
            settings[name] = value
        else:
            known = [field for field in RunConfig.model_fields if field != "seed"]
            advice = (
                "write KIND.OPTION for an option of a component, as algo.window; for seeds write "
                "seeds = [0, 1] above the tables."
            )
            raise UnknownNameError("option of a run", name, known=known, next=advice)
    return settings


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "+".join(_label(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_names(cells: Sequence[Cell], path: Path) -> None:
    names = [cell.name for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise _wrong(path, f"two cells are called {name}", "different values on every axis")


def _check_unchanged(cell: Cell, plugins: Plugins) -> bool:
    """Refuse a cell that was started with other settings; its result would count for this one.

    Returns:
        Whether its data have another place now.
    """
    if not (cell.run_dir / CONFIG).exists():
        return False
    before = resolve(settings_of(cell.run_dir), plugins)
    old, new = _compared(before), _compared(cell.config)
    changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    if changed:
        name = changed[0]
        raise InputError(
            f"{cell.run_dir} was made with {name} = {old.get(name)!r}, not {new.get(name)!r}.",
            expected="the same settings in a sweep that goes on.",
            next="pass --out DIR for a new sweep, or delete that run to have it made again.",
        )
    return moved(before, cell.config)


def _compared(config: RunConfig) -> dict[str, Any]:
    settings = flatten(config.model_dump(mode="json", exclude=set(MACHINE)))
    return {name: value for name, value in settings.items() if name not in places_of(config)}


def _wrong(path: Path, what: str, expected: str) -> InputError:
    return InputError(f"{path}: {what}.", expected=f"{expected}.", next="correct the file.")
