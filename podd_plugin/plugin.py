"""What PoDD offers, by name; nothing heavy is imported here."""

from __future__ import annotations

from distill_core.plugin import Component, Preset, hookimpl

DISTILL_API = "1.1"


@hookimpl
def distill_representations() -> list[Component]:
    """Offer the poster."""
    return [
        Component(
            "poster",
            "podd_plugin.poster:Poster",
            "podd_plugin.options:PosterOptions",
            "one image for all classes, cut into overlapping patches; any budget",
        )
    ]


@hookimpl
def distill_labelers() -> list[Component]:
    """Offer PoDDL."""
    return [
        Component(
            "poddl",
            "podd_plugin.poddl:Poddl",
            "podd_plugin.options:PoddlOptions",
            "labels by position: a learned grid pooled under a box, or the majority class",
        )
    ]


@hookimpl
def distill_orderers() -> list[Component]:
    """Offer PoCO, its stronger sibling, and the grids printed in the paper."""
    return [
        Component(
            "poco",
            "podd_plugin.poco:Poco",
            "podd_plugin.options:PocoOptions",
            "similar classes side by side: greedy along the diagonals, as published",
        ),
        Component(
            "qap",
            "podd_plugin.poco:Qap",
            "podd_plugin.options:QapOptions",
            "similar classes side by side: quadratic assignment over the whole grid",
        ),
        Component(
            "published",
            "podd_plugin.published:Published",
            "podd_plugin.options:PublishedOptions",
            "the grids printed in the PoDD paper, CIFAR-10 and CIFAR-100",
        ),
    ]


@hookimpl
def distill_presets() -> list[Preset]:
    """Offer the configurations of the paper and of its baselines, and some for a laptop."""
    from podd_plugin.baselines import baseline_presets
    from podd_plugin.presets import presets
    from podd_plugin.quick import quick_presets

    return [*quick_presets(), *presets(), *baseline_presets()]
