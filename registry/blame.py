"""Whose code raised an error: the plugin, and the place in its files."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from types import FrameType

from registry.catalogue import Provider


@dataclass(frozen=True)
class Culprit:
    """Code of a plugin that raised an error.

    Attributes:
        provider: the plugin.
        place: file and line, and the function if one ran.
    """

    provider: Provider
    place: str


def culprit(error: BaseException, group: str, *, but: str) -> Culprit | None:
    """Return the installed plugin in whose code an error was raised, or None.

    That is the one whose frame is deepest. Frames of libraries do not count, nor does what the
    distribution of the program itself brings.

    Args:
        error: with its traceback.
        group: the entry-point group of the plugins.
        but: a package of the program.
    """
    modules = _modules(group)
    own = {provider.distribution for name, provider in modules.items() if _top(name) == but}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        provider = _owner(frame.f_globals.get("__name__") or "", modules)
        if provider and provider.distribution not in own:
            return Culprit(provider, _place(frame, line))
    return None


def place_in(error: BaseException, module: str) -> str:
    """Return the file and line of an error in the package of a module; empty if it is elsewhere.

    A file that is no Python has not run, but is where the error is.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if _top(frame.f_globals.get("__name__") or "") == _top(module):
            return _place(frame, line)
    return ""


def _place(frame: FrameType, line: int) -> str:
    name = frame.f_code.co_qualname
    within = "" if name == "<module>" else f", in {name}"
    return f"{frame.f_code.co_filename}, line {line}{within}"


def _owner(name: str, modules: dict[str, Provider]) -> Provider | None:
    """Return the plugin whose module shares most of its path with one of this name."""
    shared = {each: _shared(name, each) for each in modules}
    best = max(shared, key=lambda each: shared[each], default="")
    return modules[best] if shared.get(best) else None


def _shared(first: str, second: str) -> int:
    count = 0
    for one, other in zip(first.split("."), second.split("."), strict=False):
        if one != other:
            break
        count += 1
    return count


@cache
def _modules(group: str) -> dict[str, Provider]:
    """Return the plugins by their modules and by the other packages of their distributions."""
    points = sorted(metadata.entry_points(group=group), key=lambda point: point.name)
    named = {point.module: provider_of(point) for point in points}
    by_distribution = {each.distribution: each for each in named.values()}
    others = {
        package: by_distribution[name]
        for package, names in metadata.packages_distributions().items()
        for name in names
        if name in by_distribution
    }
    return {**others, **named}


def provider_of(point: metadata.EntryPoint) -> Provider:
    """Return where an entry point comes from."""
    distribution = point.dist
    if distribution is None:
        return Provider(point.name, module=point.value)
    return Provider(point.name, distribution.name, distribution.version, point.value)


def _top(module: str) -> str:
    return module.partition(".")[0]
