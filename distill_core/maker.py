"""Making the components of a configuration."""

from __future__ import annotations

from typing import Any

from distill_core.config import RunConfig
from registry import Plugins


class Maker:
    """Makes components of a configuration and puts their name on exceptions.

    Args:
        config: names them and has their options.
        plugins: what is installed.
    """

    def __init__(self, config: RunConfig, plugins: Plugins) -> None:
        self.config, self.plugins = config, plugins

    def make(self, kind: str, option: str, **runtime: Any) -> Any:
        """Make the component of a kind that the configuration chose under `option`."""
        catalogue = self.plugins[kind]
        return catalogue.create(self.config.chosen(option), self.config.options[option], **runtime)

    def who(self, kind: str, option: str) -> str:
        """How messages name it."""
        entry = self.plugins[kind].entry(self.config.chosen(option))
        return f"{kind} '{entry.component.name}' of {entry.provider}"

    def call(self, kind: str, option: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a method of it."""
        catalogue = self.plugins[kind]
        return catalogue.attribute(self.config.chosen(option), function, *args, **kwargs)
