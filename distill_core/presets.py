"""Presets: named configurations, offered by plugins, with the figures that papers report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A configuration for `distill run --preset NAME`.

    Args:
        name: what users type.
        summary: one line for `distill presets`.
        config: the same keys as a configuration file.
        reported: the accuracy that a paper reports, with its source; empty where there is none.
    """

    name: str
    summary: str
    config: Mapping[str, Any] = field(default_factory=dict)
    reported: str = ""
