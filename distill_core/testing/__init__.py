"""Conformance checks: does a component keep the contract of its kind?

Every check takes what makes the component (its factory, with the options already given), builds
the small things it needs, and raises an AssertionError with a sentence that names the component
and its fault. Third parties test theirs in one line:

    check_installed("orderer", "alphabetical")

or without installing anything:

    check_orderer(lambda: Alphabetical(AlphabeticalOptions()), name="alphabetical")

May import: commands and what stands below them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from distill_core.config.discovery import discover
from distill_core.testing.algorithm import check_algorithm
from distill_core.testing.assertions import demand
from distill_core.testing.backbone import check_backbone
from distill_core.testing.dataset import check_dataset
from distill_core.testing.labeler import check_labeler
from distill_core.testing.orderer import check_orderer
from distill_core.testing.representation import check_representation
from registry import Plugins

__all__ = [
    "check_algorithm",
    "check_backbone",
    "check_component",
    "check_dataset",
    "check_installed",
    "check_labeler",
    "check_orderer",
    "check_representation",
    "discover",
]

_CHECKS: dict[str, Callable[..., None]] = {
    "algorithm": check_algorithm,
    "backbone": check_backbone,
    "dataset": check_dataset,
    "labeler": check_labeler,
    "orderer": check_orderer,
    "representation": check_representation,
}


def check_installed(kind: str, name: str, settings: Mapping[str, Any] | None = None) -> None:
    """Check a component as it is installed: `check_component` with what `discover` finds.

    Args:
        kind: "representation", "labeler", "orderer", "algorithm", "dataset" or "backbone".
        name: the component's name.
        settings: its options where the defaults will not do for a small test.

    Raises:
        AssertionError: the contract is not kept; the sentence says how.
        ExplainedError: there is no such component, or the settings are wrong.
    """
    check_component(discover(), kind, name, settings)


def check_component(
    plugins: Plugins, kind: str, name: str, settings: Mapping[str, Any] | None = None
) -> None:
    """Check a component of a catalogue: its record, its options, and the contract of its kind.

    Args:
        plugins: what is installed, from `discover`.
        kind: "representation", "labeler", "orderer", "algorithm", "dataset" or "backbone".
        name: the component's name.
        settings: its options where the defaults will not do for a small test.

    Raises:
        AssertionError: the contract is not kept; the sentence says how.
        ExplainedError: there is no such component, or the settings are wrong.
    """
    catalogue = plugins[kind]
    who = f"{kind} '{name}'"
    component = catalogue[name]
    demand(bool(component.summary.strip()), who, "has no summary for `distill list`")
    own, common = component.resolve_options(), catalogue.common_options()
    for option, field in own.model_fields.items():
        demand(
            bool(field.description),
            who,
            f"has an option '{option}' without a description, which `distill show` prints",
        )
        demand(
            option not in common.model_fields,
            who,
            f"has an option '{option}', which hides the one that all of its kind have; rename it",
        )
    options = catalogue.check(name, settings or {})
    _CHECKS[kind](partial(catalogue.create, name, options), name=name)
