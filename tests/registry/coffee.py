"""A small world for the registry, which knows nothing of distillation: brews, mills and cups."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
from pydantic import Field

from registry import Component, Hints, Kind, Options, Plugins, load_plugins

GROUP = "coffee"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


class BrewOptions(Options):
    """Settings of a brew."""

    grams: float = Field(18.0, gt=0, le=30, description="ground coffee, grams")
    cups: int = Field(1, ge=1, description="cups")


class Brew:
    """What every brew is."""

    def __init__(self, options: BrewOptions, *, water: str = "soft") -> None:
        self.options = options
        self.water = water

    def serve(self) -> str:
        return f"{self.options.cups} of {self.options.grams:g} g"


class Mill:
    """A mill; no brew."""


@dataclass(frozen=True)
class Cup:
    """A cup, which has a name and is not made of anything."""

    name: str


def coffee_cups() -> list[Cup]:  # type: ignore[empty-body]
    """Offer cups."""


def coffee_brews() -> list[Component]:  # type: ignore[empty-body]
    """Offer brews."""


def coffee_mills() -> list[Component]:  # type: ignore[empty-body]
    """Offer mills."""


HINTS = Hints(
    unknown="the board shows every {kind}",
    duplicate="throw one away",
    options="the board explains {kind} {name}",
    contract="the taster checks every brew",
)
KINDS = (
    Kind("brew", "coffee_brews", "tests.registry.coffee:Brew", "brew", hints=HINTS),
    Kind("mill", "coffee_mills", "tests.registry.coffee:Mill", "mill"),
)
CUPS = Kind("cup", "coffee_cups", offers=Cup)


espresso = Component("espresso", Brew, BrewOptions, "short and strong")
filtered = Component("filtered", "tests.registry.coffee:Brew", "tests.registry.coffee:BrewOptions")


def hookspecs() -> ModuleType:
    """Return the hook specifications as a module."""
    module = ModuleType("coffee_hookspecs")
    module.coffee_brews = hookspec(coffee_brews)  # type: ignore[attr-defined]
    module.coffee_cups = hookspec(coffee_cups)  # type: ignore[attr-defined]
    module.coffee_mills = hookspec(coffee_mills)  # type: ignore[attr-defined]
    return module


def plugin(*brews: Any) -> ModuleType:
    """Return a plugin in memory that offers these brews."""

    def coffee_brews() -> list[Any]:
        return list(brews)

    return with_hooks(coffee_brews)


def with_hooks(*functions: Callable[..., Any]) -> ModuleType:
    """Return a plugin in memory with these hook implementations."""
    module = ModuleType("in_memory")
    for function in functions:
        setattr(module, function.__name__, hookimpl(function))
    return module


def load(*extra: tuple[str, Any], only: list[str] | None = None) -> Plugins:
    """Load plugins from memory, and those that are installed for the group."""
    return load_plugins(GROUP, hookspecs(), KINDS, extra=extra, only=only)


def install(folder: Path, name: str, source: str, *, version: str = "1.0") -> None:
    """Put a distribution with one entry point into a folder, as an installer would."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {name}\n")
    sys.modules.pop(name, None)
