from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import ceil, floor, sqrt

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from podd_plugin.poster_size import (
    cyclic_starts,
    even_starts,
    patch_grid,
    poster_size,
    round_half_even,
)
from registry import InputError

SIDES = st.integers(1, 40)


@given(st.tuples(SIDES, SIDES), st.tuples(st.integers(1, 6), st.integers(1, 6)), st.floats(1, 9))
def test_a_poster_keeps_to_the_budget_and_is_no_smaller_than_a_patch(patch_hw, shape, images):
    budget = floor(images * patch_hw[0] * patch_hw[1])
    height, width = poster_size(budget, shape, patch_hw)
    assert height * width <= budget
    assert height >= patch_hw[0]
    assert width >= patch_hw[1]
    # No wider one fits, so the waste is less than one column.
    assert height * (width + 1) > budget


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.3, 1))
def test_large_posters_have_the_common_traits_of_the_published_ones(rows, cols, ipc):
    full = (rows * 64, cols * 64)
    budget = floor(ipc * full[0] * full[1])
    # Less than one column is wasted, at this width less than 0.4 %.
    assume(sqrt(ipc) * min(full) > 260)
    height, width = poster_size(budget, full, (64, 64))
    assert height * width >= 0.996 * budget
    assert 1 / 1.0201 <= (width / height) / (cols / rows) <= 1.0201


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 8), st.integers(1, 8))
def test_one_image_per_class_gives_the_whole_grid(rows, cols, h, w):
    full = (rows * h, cols * w)
    height, width = poster_size(full[0] * full[1], full, (h, w))
    assert height * width == full[0] * full[1]
    assert (height, width) == full


@pytest.mark.parametrize(
    ("ipc", "shape", "patch", "published"),
    [
        (0.9, (2, 5), 32, (60, 153)),
        (0.9, (10, 10), 32, (303, 303)),
        (0.4, (10, 10), 32, (202, 202)),
        (0.9, (10, 20), 32, (302, 610)),
        (0.9, (10, 20), 64, (608, 1211)),
    ],
)
def test_the_rule_is_within_two_percent_of_the_published_sizes(ipc, shape, patch, published):
    budget = round(ipc * shape[0] * shape[1] * patch * patch)
    size = poster_size(budget, shape, (patch, patch))
    for side, other in zip(size, published, strict=True):
        assert abs(side - other) <= 0.02 * other
    assert published[0] * published[1] <= size[0] * size[1] <= budget


def test_a_side_shorter_than_a_patch_is_as_long_as_a_patch():
    # Seven classes in one row at half an image each: ideally 5.7 pixels high.
    assert poster_size(7 * 32, (8, 56), (8, 8)) == (8, 28)
    assert poster_size(7 * 32, (56, 8), (8, 8)) == (28, 8)


def test_less_than_an_image_is_refused():
    assert poster_size(64, (2, 5), (8, 8)) == (8, 8)
    with pytest.raises(InputError) as caught:
        poster_size(63, (2, 5), (8, 8))
    assert caught.value.what == "a poster of 63 pixels is smaller than one patch of 8x8 = 64."
    assert caught.value.next == "raise --ipc to 1.02 times what it is; 1 is always enough."
    with pytest.raises(InputError, match="smaller than one patch of 32x32 = 1024") as caught:
        poster_size(614, (1, 2), (32, 32))  # two classes at 0.3 IPC: 0.5 is enough
    assert caught.value.next == "raise --ipc to 1.67 times what it is; 1 is always enough."


@pytest.mark.parametrize(
    ("shape", "classes", "patches"),
    [((2, 5), 10, (6, 16)), ((10, 10), 100, (20, 20)), ((10, 20), 200, (20, 40))],
)
def test_published_patch_grids(shape, classes, patches):
    assert patch_grid(shape, num_images=classes, num_canvases=1) == patches


@pytest.mark.parametrize(
    ("num_images", "item_draws", "patches"),
    [
        (100, 300 * 96, (20, 20)),  # the published loop bounds nothing
        (100, 60 * 50, (10, 10)),
        (100, 1, (10, 10)),  # one for each class at least
        (100, 200 * 30, (14, 14)),
    ],
)
def test_no_more_patches_than_an_inner_loop_sees_thirty_times(num_images, item_draws, patches):
    found = patch_grid((1, 1), num_images=num_images, num_canvases=1, item_draws=item_draws)
    assert found == patches


@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.integers(1, 500),
    st.integers(1, 10),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_never_more_patches_than_places(shape, num_images, num_canvases, most):
    rows, cols = patch_grid(shape, num_images=num_images, num_canvases=num_canvases, most=most)
    assert 1 <= rows <= most[0]
    assert 1 <= cols <= most[1]


def strides(starts: list[int]) -> set[int]:
    return {after - before for before, after in pairwise(starts)}


def test_published_patch_starts():
    assert even_starts(153, 32, 16) == [
        *(0, 8, 16, 24, 32, 40, 48, 56, 65, 73, 81, 89, 97, 105, 113, 121),
    ]
    assert even_starts(60, 32, 6) == [0, 6, 11, 17, 22, 28]
    assert even_starts(202, 32, 20) == [
        *(0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 89, 98, 107, 116, 125, 134, 143, 152, 161, 170),
    ]


@pytest.mark.parametrize(
    ("side", "length", "count", "expected"),
    [
        (153, 32, 16, {8, 9}),
        (60, 32, 6, {5, 6}),
        (303, 32, 20, {14, 15}),
        (610, 32, 60, {9, 10}),
        (302, 32, 30, {9, 10}),
        (1211, 64, 40, {29, 30}),
        (608, 64, 20, {28, 29}),
    ],
)
def test_published_strides(side, length, count, expected):
    assert strides(even_starts(side, length, count)) == expected


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20))
def test_even_starts_reach_from_border_to_border(length, room, count):
    starts = even_starts(length + room, length, count)
    assert starts == sorted(starts)
    assert starts[0] == 0
    if count > 1:
        assert starts[-1] == room
    for i, start in enumerate(starts):
        assert abs(start - i * room / max(count - 1, 1)) <= 0.5


@given(st.integers(1, 60), st.integers(1, 20))
def test_cyclic_starts_are_even_all_around(side, count):
    starts = cyclic_starts(side, count)
    gaps = strides([*sorted(starts), starts[0] + side])
    assert starts[0] == 0
    assert max(starts) < side
    assert gaps <= {side // count, ceil(side / count)}


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"), [(1, 2, 0), (3, 2, 2), (5, 2, 2), (4, 3, 1), (5, 3, 2)]
)
def test_halves_go_to_the_even_number(numerator, denominator, rounded):
    assert round_half_even(numerator, denominator) == rounded


@given(st.integers(0, 10**6), st.integers(1, 1000))
def test_all_are_rounded_as_fractions_are(numerator, denominator):
    rounded = round_half_even(numerator, denominator)
    assert type(rounded) is int
    assert rounded == round(Fraction(numerator, denominator))
