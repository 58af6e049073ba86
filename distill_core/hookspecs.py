"""Every extension point of distill: one hook per kind of component, and one for presets.

A hook returns a list of `Component`s (or `Preset`s). It does no work and imports nothing heavy:
name classes by import strings, which are imported when a component is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pluggy

from registry import Component, Hints, Kind

GROUP = "distill"
# Of everything in distill_core.plugin and distill_core.testing: MAJOR.MINOR, as in SemVer.
API_VERSION = "1.1"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@dataclass(frozen=True)
class Preset:
    """A configuration for `distill run --preset NAME`.

    Args:
        name: what users type.
        summary: one line for `distill presets`.
        config: the same keys as a configuration file.
        reported: the accuracy that a paper reports, with its source; empty if none does.
        benched: `distill bench` measures it where no preset is named.
    """

    name: str
    summary: str
    config: Mapping[str, Any] = field(default_factory=dict)
    reported: str = ""
    benched: bool = True


@hookspec
def distill_representations() -> list[Component]:  # type: ignore[empty-body]
    """Offer representations, made by `factory(options, spec=DataSpec, ipc=float | None)`."""


@hookspec
def distill_labelers() -> list[Component]:  # type: ignore[empty-body]
    """Offer labelers, made by `factory(options, placement=Placement)`."""


@hookspec
def distill_orderers() -> list[Component]:  # type: ignore[empty-body]
    """Offer class orderers, made by `factory(options)`."""


@hookspec
def distill_algorithms() -> list[Component]:  # type: ignore[empty-body]
    """Offer distillation algorithms, made by `factory(options, task=Task)`."""


@hookspec
def distill_datasets() -> list[Component]:  # type: ignore[empty-body]
    """Offer datasets, made by `factory(options)`."""


@hookspec
def distill_backbones() -> list[Component]:  # type: ignore[empty-body]
    """Offer networks, made by `factory(options, spec=DataSpec)`; see `new_backbone`."""


@hookspec
def distill_presets() -> list[Preset]:  # type: ignore[empty-body]
    """Offer named configurations for `distill run --preset`."""


_HINTS = Hints(
    unknown="`distill list {kind}` shows what can be chosen, `distill plugins` what is installed",
    duplicate="uninstall one of them, or load only the plugins you want with "
    f"{GROUP.upper()}_LOAD_PLUGINS=name,name",
    options="`distill show {kind} {name}` explains the options",
    contract="distill_core.testing checks the contract of every kind",
)


_OWN = "; pictures of your own are read by --dataset imagefolder"


def _kind(name: str, base: str, option: str, common: str = "", unknown: str = "") -> Kind:
    return Kind(
        name,
        f"distill_{name}s",
        f"distill_core.contracts.{base}",
        option,
        hints=replace(_HINTS, unknown=_HINTS.unknown + unknown),
        common=common and f"distill_core.contracts.{common}",
    )


# Long in code, short on the command line and in files.
KINDS = (
    _kind("representation", "components:Representation", "repr", "stored_options:StoredOptions"),
    _kind("labeler", "components:Labeler", "labeler", "stored_options:StoredOptions"),
    _kind("orderer", "components:Orderer", "orderer"),
    _kind("algorithm", "algorithm:Algorithm", "algo"),
    _kind("dataset", "components:Dataset", "dataset", unknown=_OWN),
    _kind("backbone", "network:Backbone", "backbone"),
)
# The one table from a kind's short name to everything else about it.
BY_OPTION = {kind.option: kind for kind in KINDS}

PRESETS = Kind(
    "preset",
    "distill_presets",
    offers=Preset,
    hints=replace(
        _HINTS,
        unknown="`distill list presets` has all names, `distill plugins` shows what is installed",
    ),
)
