from __future__ import annotations

import pytest

from distill_core.layout.class_names import grid_of_names, match_names
from registry import InputError

NAMES = ("palm_tree", "oak_tree", "7", "Ray")


def test_names_match_whatever_their_capitals_and_separators():
    assert match_names(["Palm Tree", "oak-tree", "ray"], NAMES, source="x") == [0, 1, 3]


def test_names_match_in_either_form_of_their_accents_and_odd_digits_are_names():
    assert match_names(["cafe\u0301"], ["tea", "caf\xe9"], source="x") == [1]
    assert match_names(["caf\xe9"], ["cafe\u0301"], source="x") == [0]
    assert grid_of_names([["²", 0]], ("a", "²"), (1, 2), source="x").tolist() == [[1, 0]]
    with pytest.raises(InputError, match="no match for '²'"):
        grid_of_names([["²", 0]], ("a", "b"), (1, 2), source="x")


def test_an_exact_match_goes_before_a_loose_one():
    assert match_names(["a_b", "a b"], ["a b", "a_b"], source="x") == [1, 0]


def test_an_unknown_name_is_named():
    with pytest.raises(InputError) as caught:
        match_names(["elm"], NAMES, source="grid.txt")
    assert caught.value.what == "grid.txt: no match for 'elm'."
    assert "'palm_tree'" in caught.value.expected


def test_many_unknown_names_are_cut_short():
    with pytest.raises(InputError, match="and 2 more"):
        match_names([f"n{i}" for i in range(12)], NAMES, source="x")


def test_a_grid_may_mix_names_and_numbers_and_a_name_of_digits_is_a_name():
    grid = grid_of_names([["Ray", 0], ["1", "7"]], NAMES, (2, 2), source="x")
    assert grid.tolist() == [[3, 0], [1, 2]]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([["Ray", 0, 1, "7"]], "1 rows of 4 classes"),
        ([["Ray", 0], [1]], "2 rows of 2, 1 classes"),
        ([], "0 rows"),
        ([["Ray", 0], [0, "7"]], "lacks 'oak_tree' and has 'palm_tree' more than once"),
        ([["Ray", 0], [1, "99"]], "no match for '99'"),
    ],
)
def test_a_grid_of_another_shape_or_no_permutation_is_refused(rows, text):
    with pytest.raises(InputError, match=text):
        grid_of_names(rows, NAMES, (2, 2), source="x")
