"""Settings on the command line: flags, a file or a preset, and `-o`, as `distill run` has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from distill_core.cli.names import ComponentName, OptionPair, PresetName
from registry import InputError, OptionError, Plugins, UnknownNameError

Function = TypeVar("Function", bound=Callable[..., Any])

SETTINGS: dict[str, tuple[Any, str]] = {
    "repr": (ComponentName("repr"), "Representation of the synthetic pixels."),
    "labeler": (ComponentName("labeler"), "Labeler."),
    "orderer": (ComponentName("orderer"), "Class orderer."),
    "algo": (ComponentName("algo"), "Distillation algorithm."),
    "dataset": (ComponentName("dataset"), "Dataset."),
    "backbone": (ComponentName("backbone"), "Network to distill with."),
    "ipc": (float, "Pixel budget in images per class; below 1 for posters."),
    "budget_bytes": (str, "Budget in bytes instead, labels counted: 30KiB."),
    "steps": (int, "Outer steps."),
    "minutes": (float, "Minutes of outer steps, if that comes first; judging follows."),
    "snapshots": (int, "Pictures to save over the run, for a time-lapse."),
    "seed": (int, "Seed of every random draw."),
    "device": (str, "auto, cpu, cuda, cuda:1, mps."),
}


# What flags that can be given again mean then.
AGAIN = {"backbone": "Network to distill with; again for more that judge the result."}


def with_settings(
    names: Iterable[str] = SETTINGS, again: Iterable[str] = ()
) -> Callable[[Function], Function]:
    """Give a command a flag for each of these settings; one that is not given is None.

    Args:
        names: the settings.
        again: those of them whose flag can be given more than once.
    """

    def decorate(function: Function) -> Function:
        for name in reversed([*names]):
            kind, text = SETTINGS[name]
            many = name in again
            function = click.option(
                f"--{name.replace('_', '-')}",
                type=kind,
                help=AGAIN[name] if many else text,
                multiple=many,
                callback=_several if many else None,
            )(function)
        return function

    return decorate


def _several(context: click.Context, parameter: click.Parameter, values: tuple[Any, ...]) -> Any:
    """Return one value as it is, several as a list, and None for none."""
    del context, parameter
    return [*values] if len(values) > 1 else next(iter(values), None)


def with_sources(function: Function) -> Function:
    """Give a command `--config`, `--preset` and `-o`, as `config`, `preset` and `overrides`."""
    options = (
        click.option(
            "--config", type=click.Path(path_type=Path), help="TOML file, such as a run.toml."
        ),
        click.option("--preset", type=PresetName(), help="A configuration from `distill presets`."),
        click.option(
            "-o",
            "overrides",
            type=OptionPair(),
            multiple=True,
            metavar="KIND.FIELD=VALUE",
            help="One option.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def base_settings(config: Path | None, preset: str | None, plugins: Plugins) -> dict[str, Any]:
    """Return the settings of a file or a preset; none where neither is given.

    Raises:
        OptionError: both are given, or the file names a preset.
        InputError, UnknownNameError: the file cannot be read, or there is no such preset.
    """
    from distill_core.config.discovery import preset_settings
    from distill_core.config.settings import read_settings, undotted

    if config and preset:
        raise OptionError(
            "--config and --preset were both given.",
            expected="one of them.",
            next="put what you need of the preset into the file: `distill presets NAME`.",
        )
    if not config:
        return preset_settings(preset, plugins) if preset else {}
    settings = undotted(read_settings(config))
    if "preset" in settings:
        raise OptionError(
            f"{config} names a preset, {settings['preset']!r}.",
            expected="all settings of a run; only the file of a sweep names a preset.",
            next="put what you need of the preset into the file: `distill presets NAME`.",
        )
    return settings


def own_settings(flags: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return the settings of the command line itself: flags that are given, then `-o`.

    Raises:
        OptionError, UnknownNameError: an override is of another form, or of no known kind.
    """
    from distill_core.config.settings import merge, parse_overrides

    given = {name: value for name, value in flags.items() if value is not None}
    return merge(given, parse_overrides(overrides))


@contextmanager
def packages_of(run: Path) -> Iterator[None]:
    """Name the package of a component that is not installed, as the run's manifest has it.

    Raises:
        UnknownNameError: the same, with what to install.
    """
    try:
        yield
    except UnknownNameError as error:
        if used := _package_of(run, error.name):
            package, version = used
            error.next = f"install {package} {version}, which the run used: pip install {package}."
        raise


def _package_of(run: Path, name: str) -> tuple[str, str] | None:
    """Return package and version of a component, if the manifest of a run has them."""
    from distill_core.artefact.manifest import read_manifest

    try:
        components = read_manifest(run)["components"].values()
        part = next(each for each in components if each["name"] == name)
        package, version = part["distribution"], part["version"]
    except (InputError, AttributeError, KeyError, TypeError, StopIteration):
        return None  # missing or damaged, which must not hide the name
    text = isinstance(package, str) and isinstance(version, str)
    is_shown = text and package.isprintable() and version.isprintable()
    is_installed = is_shown and not package.startswith("(")  # objects have no package
    return (package, version) if is_installed else None


def changes(
    overrides: tuple[str, ...], flags: dict[str, Any], allowed: tuple[str, ...]
) -> dict[str, Any]:
    """Return what the command line changes in the run's configuration.

    Args:
        overrides: what follows -o.
        flags: options of `evaluate` that have flags of their own; None where not given.
        allowed: what -o may set, kinds or single options: what judges, and where the data lie.

    Raises:
        OptionError: an override is of something that the run has fixed.
    """
    from distill_core.config.settings import parse_overrides

    for pair in overrides:
        name = pair.partition("=")[0].strip()
        if not {name, name.partition(".")[0]} & set(allowed):
            fields = (each if "." in each else f"{each}.FIELD" for each in allowed)
            raise OptionError(
                f"-o {pair} cannot be changed after the run.",
                expected=f"one of: {', '.join(f'-o {field}=VALUE' for field in fields)}.",
                next="leave it out, or distill again with it.",
            )
    changed = parse_overrides(overrides)
    given = {name: value for name, value in flags.items() if value is not None}
    changed.setdefault("evaluate", {}).update(given)
    return changed
