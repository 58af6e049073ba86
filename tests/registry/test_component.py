"""Descriptors: names, and import strings that are resolved only when they are needed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import Component, ContractError, Options
from tests.registry.coffee import Brew, BrewOptions, filtered


@pytest.mark.parametrize("name", ["a", "poco", "rat_bptt", "r2d2", "x_"])
def test_good_names(name: str) -> None:
    assert Component(name, Brew).name == name


@given(st.text(max_size=6))
def test_every_name_is_good_or_refused(name: str) -> None:
    if re.fullmatch(r"[a-z][a-z0-9_]*", name):
        assert Component(name, Brew).name == name
    else:
        with pytest.raises(ContractError, match="cannot be the name of a component"):
            Component(name, Brew)


def test_the_text_for_a_bad_name() -> None:
    with pytest.raises(ContractError) as caught:
        Component("My-Brew", Brew)
    assert str(caught.value) == (
        "'My-Brew' cannot be the name of a component.\n"
        "Expected lower case letters, digits and underscores, a letter first.\n"
        "Next: rename it in the plugin that offers it."
    )


def test_import_strings_are_resolved() -> None:
    assert filtered.resolve_factory() is Brew
    assert filtered.resolve_options() is BrewOptions


def test_making_a_record_imports_nothing() -> None:
    Component("ghost", "no_such_package:Thing", "no_such_package:Options")


def test_classes_pass_as_they_are() -> None:
    component = Component("espresso", Brew, BrewOptions)
    assert component.resolve_factory() is Brew
    assert component.resolve_options() is BrewOptions


def test_without_options_there_are_none_to_set() -> None:
    assert Component("plain", Brew).resolve_options() is Options
    assert not Options.model_fields


@pytest.mark.parametrize(
    "target",
    ["no_such_package:Thing", "tests.registry.coffee:Nothing", "tests.registry.coffee", ""],
)
def test_an_import_string_that_names_nothing(target: str) -> None:
    with pytest.raises(ContractError) as caught:
        Component("ghost", target).resolve_factory()
    assert f"component 'ghost' points to '{target}', which cannot be imported" in str(caught.value)
    assert caught.value.next == "fix or reinstall the plugin that offers it."


def test_a_factory_that_cannot_be_called() -> None:
    with pytest.raises(ContractError, match="which cannot be called"):
        Component("ghost", "tests.registry.coffee:GROUP").resolve_factory()


@pytest.mark.parametrize("options", ["tests.registry.coffee:Brew", "tests.registry.coffee:GROUP"])
def test_options_of_another_type(options: str) -> None:
    with pytest.raises(ContractError) as caught:
        Component("ghost", Brew, options).resolve_options()
    assert caught.value.expected == "a subclass of registry.Options."
