from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from podd_plugin.poster_init import area_grid, crossfade, mosaic, real_areas, unit_areas
from podd_plugin.poster_size import even_starts


@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 30))
def test_fades_sum_to_one_wherever_a_stretch_lies(length, count, room):
    side = length + room
    starts = even_starts(side, length, count)
    weights = crossfade(starts, length, side)
    covered = torch.zeros(side)
    for start in starts:
        covered[start : start + length] = 1
    torch.testing.assert_close(weights.sum((0, 1)), covered)
    assert bool((weights >= 0).all())


def test_two_stretches_fade_linearly():
    weights = crossfade([0, 2], 4, 6).sum(1)
    torch.testing.assert_close(weights[1], torch.tensor([0, 0, 1 / 3, 2 / 3, 1, 1]))
    torch.testing.assert_close(weights[0], 1 - weights[1])


def test_areas_that_do_not_overlap_are_laid_side_by_side():
    areas = torch.arange(2 * 3 * 2 * 2 * 2.0).reshape(2, 3, 1, 2, 4)
    poster = mosaic(areas, (4, 12))
    for row in range(2):
        for col in range(3):
            cut = poster[:, row * 2 : row * 2 + 2, col * 4 : col * 4 + 4]
            assert torch.equal(cut, areas[row, col])


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 6), st.integers(0, 6))
def test_areas_of_one_value_give_a_poster_of_that_value(rows, cols, tall, wide):
    areas = torch.full((rows, cols, 2, 4, 4), 3.0)
    canvas_hw = (min(4 + tall, 4 * rows), min(4 + wide, 4 * cols))
    torch.testing.assert_close(mosaic(areas, canvas_hw), torch.full((2, *canvas_hw), 3.0))


@pytest.mark.parametrize("rows_cols", [(3, 2), (2, 3)])
def test_a_grid_with_more_rows_than_columns_loses_none(rows_cols):
    rows, cols = rows_cols
    areas = torch.arange(6.0).reshape(rows, cols, 1, 1, 1).expand(-1, -1, 1, 4, 4)
    poster = mosaic(areas, (rows * 3, cols * 3))
    assert poster.shape == (1, rows * 3, cols * 3)
    assert float(poster[0, 0, 0]) == 0
    assert float(poster[0, -1, -1]) == 5


def test_an_area_for_each_cell_and_no_gaps():
    assert area_grid((2, 3), (10, 15), (8, 8)).tolist() == [[0, 1, 2], [3, 4, 5]]
    # A side of 20 needs three areas of 8, for two cells; one of 9 needs two, for one.
    assert area_grid((2, 1), (20, 9), (8, 8)).tolist() == [[0, 0], [0, 0], [1, 1]]


def test_unit_areas_have_norm_one():
    areas = unit_areas(5, (3, 4, 4), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(areas.flatten(1).norm(dim=1), torch.ones(5))


def test_real_areas_are_images_of_their_class(make_real):
    real = make_real(4, (1, 4, 4), per_class=2)
    classes = torch.tensor([[3, 1], [0, 3]])
    areas = real_areas(real, classes, generator=torch.Generator().manual_seed(0))
    assert areas.shape == (2, 2, 1, 4, 4)
    for row in range(2):
        for col in range(2):
            members = real.train.images[real.train.labels == classes[row, col]]
            assert bool((members == areas[row, col]).all(dim=(1, 2, 3)).any())
