"""The check of a component by name: its record, and then its kind."""

from __future__ import annotations

from types import ModuleType

import pytest
from pydantic import Field

from distill_core.config.discovery import discover
from distill_core.contracts.stored_options import StoredOptions, shared
from distill_core.hookspecs import hookimpl
from distill_core.testing import check_component, check_installed
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


class Hiding(Options):
    """An option that all representations have, for something else."""

    stored: int = Field(3, description="pictures in the store")


def test_an_option_of_all_may_not_be_hidden() -> None:
    module = ModuleType("mine")
    hiding = Component("x", lambda options: Reading(), Hiding, "hides")
    module.distill_representations = hookimpl(  # type: ignore[attr-defined]
        lambda: [hiding], specname="distill_representations"
    )
    plugins = discover(extra=[("mine", module)], only=[])
    with pytest.raises(AssertionError, match="option 'stored', which hides the one that all"):
        check_component(plugins, "representation", "x")
    options = plugins["representation"].check("x", {"stored": 4, "scales": "tensor"})
    assert shared(options) == StoredOptions(scales="tensor")


def test_an_unknown_component_is_no_assertion() -> None:
    with pytest.raises(UnknownNameError):
        check_component(discover(only=[]), "orderer", "x")
    with pytest.raises(UnknownNameError):
        check_installed("orderer", "x")


def test_what_is_installed_is_checked_by_its_name() -> None:
    check_installed("orderer", "random")
