"""Plugins and what they offer by name: found, checked and made. Imports nothing of the program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry.catalogue import Catalogue, Entry, Failure, Hints, Kind, Provider
from registry.component import Component
from registry.components import Builder, Components
from registry.errors import (
    ContractError,
    DuplicateNameError,
    EnvironmentFault,
    ExplainedError,
    InputError,
    OptionError,
    UnknownNameError,
    first_line,
    nearest,
    raised_by,
    visible,
)
from registry.plugins import Plugins, load_plugins

if TYPE_CHECKING:
    from registry.options import Options, about, check_options

__all__ = [
    "Builder",
    "Catalogue",
    "Component",
    "Components",
    "ContractError",
    "DuplicateNameError",
    "Entry",
    "EnvironmentFault",
    "ExplainedError",
    "Failure",
    "Hints",
    "InputError",
    "Kind",
    "OptionError",
    "Options",
    "Plugins",
    "Provider",
    "UnknownNameError",
    "about",
    "check_options",
    "first_line",
    "load_plugins",
    "nearest",
    "raised_by",
    "visible",
]


def __getattr__(name: str) -> Any:
    # pydantic takes longer to import than everything else here together.
    if name in {"Options", "about", "check_options"}:
        from registry import options

        return getattr(options, name)
    raise AttributeError(f"module 'registry' has no attribute '{name}'")
