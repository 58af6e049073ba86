"""The check of a component by name: its record, and then its kind."""

from __future__ import annotations

from types import ModuleType

import pytest

from distill_core.config.discovery import discover
from distill_core.hookspecs import hookimpl
from distill_core.testing import check_component
from registry import Component, Options, UnknownNameError
from tests.distill_core.testing.test_orderer import Reading, Repeating


class Unexplained(Options):
    """An option that nobody explains."""

    speed: int = 3


@pytest.mark.parametrize(
    ("component", "sentence"),
    [
        (Component("x", lambda options: Reading()), "has no summary"),
        (
            Component("x", lambda options: Reading(), Unexplained, "reads"),
            "has an option 'speed' without a description",
        ),
        (
            Component("x", lambda options: Repeating(), summary="repeats"),
            "not a permutation of the classes",
        ),
    ],
)
def test_records_are_checked_too(component: Component, sentence: str) -> None:
    module = ModuleType("mine")
    module.distill_orderers = hookimpl(  # type: ignore[attr-defined]
        lambda: [component], specname="distill_orderers"
    )
    plugins = discover(extra=[("mine", module)], only=[])
    with pytest.raises(AssertionError) as caught:
        check_component(plugins, "orderer", "x")
    assert str(caught.value).startswith("orderer 'x' ")
    assert sentence in str(caught.value)


def test_an_unknown_component_is_no_assertion() -> None:
    with pytest.raises(UnknownNameError):
        check_component(discover(only=[]), "orderer", "x")
