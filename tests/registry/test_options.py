"""Options: every mistake is named at once, with the option as users write it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator

from registry import OptionError, Options, about, check_options
from registry.options import joined, marked, written
from tests.registry.coffee import BrewOptions


class Tea(Options):
    """Settings with a relation, a choice, and a required field."""

    leaf: Literal["green", "black"] = Field(description="kind of leaf")
    minutes: int | None = Field(None, ge=1, description="minutes")
    low: float = Field(0.0, description="lowest")
    high: float = Field(1.0, description="highest")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low > self.high:
            raise OptionError(
                f"option brew.low = {self.low:g} is above brew.high = {self.high:g}.",
                expected="low <= high.",
                next="lower it.",
            )
        if self.minutes == 13:
            raise ValueError("thirteen minutes bring bad luck")
        return self


def test_values_from_a_command_line_are_converted() -> None:
    checked = check_options(BrewOptions, {"grams": "20", "cups": "2"}, where="brew")
    assert checked == BrewOptions(grams=20.0, cups=2)


def test_options_are_frozen() -> None:
    options = BrewOptions()
    with pytest.raises(ValidationError):
        options.cups = 2  # type: ignore[misc]


def test_methods_of_a_subclass_replace_no_check() -> None:
    class Poured(Options):
        cups: int | None = Field(1, **about("cups"))

        @classmethod
        def _read(cls, given: Any) -> Any:
            return f"tea leaves: {given}"

        def _can_be_counted(self) -> bool:
            return bool(self.cups)

    assert check_options(Poured, {"cups": "none"}, where="brew").cups is None
    with pytest.raises(OptionError, match=r"option brew\.cups = 9223372036854775808 is not valid"):
        check_options(Poured, {"cups": 2**63}, where="brew")
    assert Poured._read(2) == "tea leaves: 2"
    assert Poured()._can_be_counted()


def test_defaults_are_checked_too() -> None:
    class Wrong(Options):
        cups: int = Field(0, ge=1)

    with pytest.raises(OptionError, match=r"option brew\.cups = 0 is not valid"):
        check_options(Wrong, {}, where="brew")


def message(model: type[Options], settings: dict[str, Any]) -> str:
    with pytest.raises(OptionError) as caught:
        check_options(model, settings, where="brew")
    return str(caught.value)


def test_an_unknown_option() -> None:
    assert message(BrewOptions, {"gramms": 3}) == (
        "unknown option brew.gramms. Did you mean 'brew.grams'?\n"
        "Expected one of: grams, cups.\n"
        "Next: pass -o brew.grams=VALUE."
    )


def test_an_unknown_option_of_something_without_options() -> None:
    assert "Expected one of: (it has no options)." in message(Options, {"a": 1})


def test_a_value_out_of_bounds() -> None:
    assert message(BrewOptions, {"grams": "31"}) == (
        "option brew.grams = '31' is not valid.\n"
        "Expected brew.grams: at most 30.\n"
        "Next: pass -o brew.grams=VALUE."
    )


def test_a_value_of_the_wrong_type() -> None:
    for given in ("two", "2.5", ""):
        text = message(BrewOptions, {"cups": given})
        assert text.startswith(
            f"option brew.cups = {given!r} is not valid.\nExpected brew.cups: a whole number.\n"
        )
    assert "Expected brew.grams: a number.\n" in message(BrewOptions, {"grams": "few"})


def test_a_choice_names_the_choices() -> None:
    text = message(Tea, {"leaf": "oolong"})
    assert text.splitlines()[1] == "Expected brew.leaf: 'green' or 'black'."
    text = message(Tea, {"leaf": "geen"})
    assert text.splitlines()[0].endswith("is not valid. Did you mean 'green'?")


def test_the_component_is_shown_where_there_is_one() -> None:
    with pytest.raises(OptionError) as caught:
        check_options(Options, {"a": 1}, where="brew", explained="tea explains it")
    assert caught.value.next == "tea explains it."


def test_a_missing_option_is_described() -> None:
    assert message(Tea, {}) == (
        "option brew.leaf is not given.\nExpected brew.leaf: kind of leaf.\n"
        "Next: pass -o brew.leaf=VALUE."
    )


def test_all_mistakes_are_named_at_once() -> None:
    text = message(BrewOptions, {"grams": "-1", "cups": "0", "sugar": "yes"})
    what = text.splitlines()[0]
    assert all(name in what for name in ("brew.grams", "brew.cups", "brew.sugar"))


def test_the_members_of_a_union_are_not_shown() -> None:
    what = message(Tea, {"leaf": "green", "minutes": "soon"}).splitlines()[0]
    assert what == "option brew.minutes = 'soon' is not valid."


def test_a_relation_explained_by_the_model_passes_unchanged() -> None:
    text = message(Tea, {"leaf": "green", "low": 2})
    assert text == (
        "option brew.low = 2 is above brew.high = 1.\nExpected low <= high.\nNext: lower it."
    )


def test_a_relation_that_is_not_explained_still_says_why() -> None:
    text = message(Tea, {"leaf": "green", "minutes": 13})
    assert "thirteen minutes bring bad luck" in text


class Cup(Options):
    """Settings that may be None, and one with a "none" of its own."""

    size: int | None = 3
    lid: Literal["none", "wood"] | None = None
    where: Path | None = None
    sugar: int = 0


def test_none_is_a_word_where_the_type_has_none() -> None:
    given = {"size": "none", "lid": "none", "where": "none"}
    checked = check_options(Cup, given, where="cup")
    assert (checked.size, checked.lid, checked.where) == (None, "none", None)
    assert written(checked) == {"size": "none", "lid": "none", "sugar": 0}
    assert check_options(Cup, written(checked), where="cup") == checked
    assert "brew.sugar = 'none' is not valid" in message(Cup, {"sugar": "none"})


class Kettle(Options):
    """Settings that had two more: one of its own, and one of the model that all share."""

    retired: ClassVar = {"litres": 1.5}
    watts: int = 1000


class Plugged(Options):
    retired: ClassVar = {"volts": None}


def test_a_retired_option_is_read_with_the_value_that_is_left():
    model = joined(Kettle, Plugged)
    given = {"watts": 800, "litres": 1.5, "volts": None}
    checked = check_options(model, given, where="kettle")
    assert written(checked) == {"watts": 800}
    assert model.model_json_schema()["properties"].keys() == {"watts"}
    assert model.model_validate({"volts": "none"}) == model()  # files have no other word for None
    assert message(model, {"litres": 2}) == (
        "option brew.litres = 2 is not there any more.\n"
        "Expected brew.litres = 1.5, as without it; earlier versions had others.\n"
        "Next: leave it out."
    )
    assert "volts = 230 is not there" in message(model, {"volts": 230})


def test_counts_that_no_array_can_have_are_refused():
    class Many(Options):
        things: int = Field(1, ge=1, **about("things"))
        seed: int = 0

    assert check_options(Many, {"things": 2**63 - 1, "seed": 2**80}, where="x").seed == 2**80
    with pytest.raises(
        OptionError, match=r"x\.things = 9223372036854775808 is not valid"
    ) as raised:
        check_options(Many, {"things": 2**63}, where="x")
    assert "at most 9,223,372,036,854,775,807" in raised.value.expected


class Scale(Options):
    """Settings of a scale."""

    grams: int = 3
    most: float | None = None
    tared: bool = True
    shown: bool | int = 2


@pytest.mark.parametrize("name", ["grams", "most"])
@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_no_numbers(name: str, value: bool) -> None:
    """`window = true` in a file was a window of one step."""
    with pytest.raises(OptionError, match=f"{name} = {value} is not valid") as caught:
        check_options(Scale, {name: value}, where="tea")
    assert "a number, not true or false" in str(caught.value)
    found = check_options(Scale, {"tared": value, "shown": value}, where="tea")
    assert (found.tared, found.shown) == (value, value)


class Place(Options):
    """Settings of a place."""

    path: Path
    cache: Path | None = None
    title: str = ""


@pytest.mark.parametrize("name", ["path", "cache"])
def test_an_empty_path_is_not_the_current_folder(name: str) -> None:
    """`-o dataset.path=$DATA` with the variable unset read whatever lay in the folder."""
    with pytest.raises(OptionError, match=f"dataset.{name} = '' is not valid") as caught:
        check_options(Place, {"path": "data", name: ""}, where="dataset")
    assert f"dataset.{name}: a path; . is the current folder" in str(caught.value)
    found = check_options(Place, {"path": ".", "cache": "none", "title": ""}, where="dataset")
    assert (found.path, found.cache, found.title) == (Path("."), None, "")


class Served(Options):
    """Settings that every kind of tea has."""

    saucers: int = 1


class Own(Options):
    """A tea that has something else by the name of what all have."""

    saucers: str = "blue"


class Table(Served):
    """Two settings that every tea has."""

    cups: int = Field(1, ge=1, description="of a table", **about("cups", shared="yes"))


def test_a_name_in_both_models_hides_that_one_alone() -> None:
    made = joined(Own, Table).model_validate({"saucers": "red", "cups": 3})
    assert made.model_dump() == {"saucers": "red", "cups": 3}
    assert marked(made, "shared") == {"cups": "yes"}
    with pytest.raises(OptionError, match="cups = 0 is not valid"):
        check_options(joined(Own, Table), {"cups": 0}, where="tea")
    assert pickle.loads(pickle.dumps(made)) == made


def test_options_of_two_models_can_be_pickled() -> None:
    """Processes of a bench are given the configuration of their run."""
    made = joined(Tea, Served).model_validate({"leaf": "green", "saucers": 2})
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert type(again) is type(made)
    assert again.model_fields_set == {"leaf", "saucers"}
