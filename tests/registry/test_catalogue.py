"""Catalogues: look-up, duplicates, and the promise that what is made is of the right kind."""

from __future__ import annotations

from typing import Any

import pytest

from registry import (
    Component,
    Components,
    ContractError,
    DuplicateNameError,
    Failure,
    InputError,
    OptionError,
    Provider,
    UnknownNameError,
)
from tests.registry.coffee import KINDS, Brew, BrewOptions, Mill, espresso, filtered

HERE = Provider("here", "coffee-here", "1.2")
THERE = Provider("there", "coffee-there", "3.4")


@pytest.fixture
def brews() -> Components:
    catalogue = Components(KINDS[0])
    catalogue.add(filtered, HERE)
    catalogue.add(espresso, HERE)
    return catalogue


def test_names_are_sorted_and_looked_up(brews: Components) -> None:
    assert brews.names() == list(brews) == ["espresso", "filtered"]
    assert "espresso" in brews
    assert "tea" not in brews
    assert brews.entry("espresso").provider is HERE
    assert brews["espresso"] is espresso
    assert brews.get("tea") is None


def test_an_unknown_name(brews: Components) -> None:
    with pytest.raises(UnknownNameError) as caught:
        brews.entry("expresso")
    assert str(caught.value) == (
        "no brew named 'expresso'. Did you mean 'espresso'?\n"
        "Expected one of: espresso, filtered.\n"
        "Next: the board shows every brew."
    )


def test_an_unknown_name_mentions_plugins_that_failed() -> None:
    failures = [Failure(Provider(name), "no beans", "") for name in ("steam", "drip")]
    with pytest.raises(UnknownNameError, match=r"failed to load: steam, drip\)"):
        Components(KINDS[0], failures).entry("expresso")


def test_a_duplicate_names_both_providers_and_keeps_the_first(brews: Components) -> None:
    with pytest.raises(DuplicateNameError) as caught:
        brews.add(Component("espresso", Brew), THERE)
    assert caught.value.providers == ("here (coffee-here 1.2)", "there (coffee-there 3.4)")
    assert caught.value.next == "throw one away."
    assert brews.entry("espresso").provider is HERE


def test_something_that_is_no_component(brews: Components) -> None:
    with pytest.raises(ContractError, match=r"hook coffee_brews of there .* returned <class"):
        brews.add(Brew, THERE)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["espresso", "filtered"])
def test_create_checks_options_and_passes_what_the_run_gives(brews: Components, name: str) -> None:
    made = brews.create(name, {"cups": "2"}, water="hard")
    assert isinstance(made, Brew)
    assert made.options == BrewOptions(cups=2)
    assert made.water == "hard"


def test_create_takes_checked_options(brews: Components) -> None:
    options = brews.check("espresso", {"grams": 7})
    assert brews.create("espresso", options).options is options


def test_bad_settings_carry_the_option_prefix(brews: Components) -> None:
    with pytest.raises(OptionError, match=r"option brew\.cups = 0 is not valid") as caught:
        brews.create("espresso", {"cups": 0})
    assert caught.value.next == "pass -o brew.cups=VALUE; the board explains brew espresso."


def test_a_component_of_another_kind_is_refused(brews: Components) -> None:
    brews.add(Component("mill", lambda options: Mill()), THERE)
    with pytest.raises(ContractError) as caught:
        brews.create("mill", {})
    assert caught.value.what == "brew 'mill' of there (coffee-there 3.4) made a Mill."
    assert caught.value.expected == "an instance of Brew."
    assert caught.value.next == "fix plugin 'there'; the taster checks every brew."


def test_a_plugin_s_exception_keeps_its_type_and_gets_a_note(brews: Components) -> None:
    def explode(options: Any) -> Brew:
        raise KeyError("boiler")

    brews.add(Component("burnt", explode), THERE)
    with pytest.raises(KeyError) as caught:
        brews.create("burnt", {})
    assert caught.value.__notes__ == ["raised by brew 'burnt' of plugin there (coffee-there 3.4)"]


def test_a_user_s_mistake_passes_a_plugin_unchanged(brews: Components) -> None:
    mistake = InputError("no water.")

    def refuse(options: Any) -> Brew:
        raise mistake

    brews.add(Component("dry", refuse), THERE)
    with pytest.raises(InputError) as caught:
        brews.create("dry", {})
    assert caught.value is mistake
    assert not hasattr(mistake, "__notes__")


def test_call_returns_what_the_component_returns(brews: Components) -> None:
    made = brews.create("espresso", {})
    assert brews.call("espresso", made.serve) == "1 of 18 g"
