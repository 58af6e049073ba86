"""Plugins in memory for tests of the command line."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
from click.testing import CliRunner, Result
from pydantic import Field

from distill_core.cli import main
from distill_core.config.discovery import discover
from distill_core.config.grid_shape import GridShape
from distill_core.hookspecs import Preset, hookimpl
from registry import Component, Options, Plugins, about

ROOT = Path(__file__).parents[3]


class SpiralOptions(Options):
    """Options of every sort that `show` must explain."""

    turns: int = Field(
        3, ge=1, le=9, description="turns of the spiral", **about("turns", "Bees, eq. 2")
    )
    pitch: float | None = Field(None, gt=0, description="distance of turns", **about("pixels"))
    grid: GridShape = Field((6, 16), description="rows and columns")
    start: Literal["centre", "corner"] = Field("centre", description="where it begins")
    file: Path = Field(description="a file [with brackets]")


def spiral() -> ModuleType:
    """A plugin with one orderer, one algorithm and one preset."""

    def distill_orderers() -> list[Component]:
        return [Component("spiral", "no:where", SpiralOptions, "classes along a [spiral]")]

    def distill_algorithms() -> list[Component]:
        return [Component("guess", "no:where", summary="guesses")]

    def distill_presets() -> list[Preset]:
        config = {"repr": "poster", "steps": 3, "options": {"orderer": {"grid": "2x5"}}}
        return [Preset("quick", "three steps", config, "12.3 % (a paper, table 4)")]

    return with_hooks(distill_orderers, distill_algorithms, distill_presets)


def with_hooks(*functions: Callable[..., Any]) -> ModuleType:
    """A plugin with these hook implementations."""
    module = ModuleType("in_memory")
    for function in functions:
        setattr(module, function.__name__, hookimpl(function))
    return module


def broken() -> ModuleType:
    """A plugin whose hook raises."""

    def distill_orderers() -> list[Component]:
        raise RuntimeError("no compass")

    return with_hooks(distill_orderers)


def use(monkeypatch: pytest.MonkeyPatch, command: str, *extra: tuple[str, Any]) -> Plugins:
    """Let a command discover these plugins and nothing that is installed."""
    plugins = discover(extra=extra, only=[])
    module = importlib.import_module(f"distill_core.cli.{command}")
    monkeypatch.setattr(module, "discover", lambda: plugins)
    return plugins


def distill(*arguments: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, list(arguments), prog_name="distill")


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with this checkout on its path."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdin=subprocess.DEVNULL,
    )
