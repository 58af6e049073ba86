"""The text of every error: what was wrong, what was expected, what to do next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import (
    ContractError,
    DuplicateNameError,
    EnvironmentFault,
    ExplainedError,
    InputError,
    OptionError,
    UnknownNameError,
    nearest,
)


def test_three_parts_make_three_lines() -> None:
    error = ExplainedError("the cup is full.", expected="an empty cup.", next="drink.")
    assert str(error) == "the cup is full.\nExpected an empty cup.\nNext: drink."
    assert (error.what, error.expected, error.next) == (
        "the cup is full.",
        "an empty cup.",
        "drink.",
    )


def test_parts_that_are_not_given_are_left_out() -> None:
    assert str(ExplainedError("the cup is full.")) == "the cup is full."
    assert str(ExplainedError("full.", next="drink.")) == "full.\nNext: drink."


@pytest.mark.parametrize(
    ("kind", "standard"),
    [
        (OptionError, ValueError),
        (InputError, ValueError),
        (ContractError, TypeError),
        (EnvironmentFault, OSError),
    ],
)
def test_each_kind_is_explained_and_of_a_standard_kind(
    kind: type[ExplainedError], standard: type[Exception]
) -> None:
    error = kind("a is b.", expected="a is c.", next="write c.")
    assert isinstance(error, standard)
    assert str(error) == "a is b.\nExpected a is c.\nNext: write c."


def test_unknown_name_names_the_nearest_and_all_others() -> None:
    error = UnknownNameError(
        "orderer", "pocco", known=["random", "poco", "identity"], next="see `distill list`."
    )
    assert str(error) == (
        "no orderer named 'pocco'. Did you mean 'poco'?\n"
        "Expected one of: identity, poco, random.\n"
        "Next: see `distill list`."
    )
    assert error.nearest == "poco"
    assert isinstance(error, LookupError)


def test_of_many_names_the_nearest_few_are_listed() -> None:
    known = [f"podd-{name}" for name in "abcdefghijklmnop"]
    what, expected = str(UnknownNameError("preset", "podd_a", known=known)).splitlines()
    assert what == "no preset named 'podd_a'. Did you mean 'podd-a'?"
    assert expected.startswith("Expected one of: podd-a, ")
    assert expected.endswith(" and 11 more.")


def test_what_a_user_typed_cannot_add_a_line_or_steer_a_terminal() -> None:
    error = UnknownNameError("orderer", "po\nco\x1b[2J\u202e", known=["poco"])
    what, expected = str(error).splitlines()
    assert what.startswith("no orderer named 'po\\nco\\x1b[2J\\u202e'.")
    assert expected == "Expected one of: poco."


def test_unknown_name_far_from_everything_guesses_nothing() -> None:
    error = UnknownNameError("orderer", "zzz", known=["poco"])
    assert str(error) == "no orderer named 'zzz'.\nExpected one of: poco."
    assert error.nearest is None


def test_unknown_name_where_nothing_is_installed() -> None:
    assert "Expected one of: (none is installed)." in str(UnknownNameError("mill", "a", known=[]))


def test_unknown_name_may_add_a_note_to_the_guess() -> None:
    error = UnknownNameError("mill", "coni", known=["conic"], note=" (mills 1.0)")
    assert "Did you mean 'conic' (mills 1.0)?" in str(error)


def test_duplicate_name_names_both_providers() -> None:
    error = DuplicateNameError("orderer", "poco", ("podd (distill-podd 1)", "mine (my-pkg 2)"))
    assert str(error) == (
        "two orderers are named 'poco': one from podd (distill-podd 1), one from mine (my-pkg 2).\n"
        "Expected one provider for every name.\n"
        "Next: uninstall one of them."
    )
    assert error.providers == ("podd (distill-podd 1)", "mine (my-pkg 2)")
    assert isinstance(error, ValueError)


names = st.text(alphabet="abcde_", min_size=1, max_size=8)


@given(name=names, known=st.lists(names, max_size=5))
def test_nearest_is_a_known_name_and_finds_equal_ones(name: str, known: list[str]) -> None:
    found = nearest(name, known)
    assert found is None or found in known
    if name in known:
        assert found == name
