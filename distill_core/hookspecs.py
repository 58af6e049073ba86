"""Every extension point of distill: one hook per kind of component, and one for presets.

A hook returns a list of `Component`s (or `Preset`s). It does no work and imports nothing heavy:
name classes by import strings, and they are imported when they are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from registry import Component, Kind

if TYPE_CHECKING:
    from distill_core.presets import Preset

GROUP = "distill"
# Of everything in distill_core.plugin and distill_core.testing: MAJOR.MINOR, as in SemVer.
API_VERSION = "1.0"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


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


KINDS = (
    Kind(
        "representation",
        "distill_representations",
        "distill_core.contracts:Representation",
        "repr",
    ),
    Kind("labeler", "distill_labelers", "distill_core.contracts:Labeler", "labeler"),
    Kind("orderer", "distill_orderers", "distill_core.contracts:Orderer", "orderer"),
    Kind("algorithm", "distill_algorithms", "distill_core.contracts:Algorithm", "algo"),
    Kind("dataset", "distill_datasets", "distill_core.contracts:Dataset", "dataset"),
    Kind("backbone", "distill_backbones", "distill_core.contracts:Backbone", "backbone"),
)
