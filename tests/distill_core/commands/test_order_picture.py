from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from distill_core.commands.order_picture import GAP, TILE, fit_name, order_picture


def tile(picture, row, col, line_height):
    y = GAP + row * (TILE + line_height + GAP)
    x = GAP + col * (TILE + GAP)
    return np.asarray(picture)[y : y + TILE, x : x + TILE].astype(int)


def test_every_class_is_drawn_where_the_grid_has_it(make_real):
    real = make_real(6, (3, 8, 8))
    one = order_picture(torch.tensor([[0, 1, 2], [3, 4, 5]]), real)
    other = order_picture(torch.tensor([[5, 1, 2], [3, 4, 0]]), real)
    assert one.size == other.size == (3 * (TILE + GAP) + GAP, 2 * (TILE + 15 + GAP) + GAP)
    assert (tile(one, 0, 0, 15) == tile(other, 1, 2, 15)).all()
    assert (tile(one, 1, 2, 15) == tile(other, 0, 0, 15)).all()
    assert (tile(one, 0, 1, 15) == tile(other, 0, 1, 15)).all()
    assert (tile(one, 0, 0, 15) != tile(one, 0, 1, 15)).any()


def test_a_tile_is_the_mean_image_of_its_class(make_real):
    real = make_real(4, (1, 8, 8))
    picture = order_picture(torch.arange(4).reshape(2, 2), real)
    members = real.train.images[real.train.labels == 2].mean(0)[0]
    drawn = torch.from_numpy(tile(picture, 1, 0, 15)[6::12, 6::12, 0]).float()
    both = torch.stack([members.flatten(), drawn.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.98  # contrast was stretched and cut


def test_large_images_are_shrunk(make_real):
    picture = order_picture(torch.tensor([[0, 1]]), make_real(2, (3, 200, 100), per_class=1))
    assert picture.size == (2 * (TILE // 2 + GAP) + GAP, TILE + 15 + 2 * GAP)


def test_names_are_broken_between_words():
    assert fit_name("apple", 100) == (["apple"], 13)
    lines, size = fit_name("black_footed_albatross", 100)
    assert " ".join(lines) == "black footed albatross"
    assert (len(lines), size) == (2, 13)


@given(st.text("abc_- ", max_size=60), st.integers(20, 120))
def test_every_line_fits(name, width):
    lines, size = fit_name(name, width)
    font = ImageFont.load_default(size=size)
    assert len(lines) <= 2
    assert all(font.getlength(text) <= width for text in lines)
