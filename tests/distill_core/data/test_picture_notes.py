from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from distill_core.data.picture_notes import PictureNotes, shown


def _deep(*values: int) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=np.uint16))


def test_sixteen_bits_with_little_in_them_are_told_with_figures() -> None:
    notes = PictureNotes()
    notes.see(_deep(0, 1000))
    notes.see(_deep(5, 1023))
    notes.see(Image.new("L", (2, 2)))
    (line,) = notes.lines()
    assert line.startswith("2 pictures of 16 bits grey with values up to 1023 of 65535")
    assert "become 5 of 256 grey levels" in line
    assert "multiply the values by 64 before" in line


@pytest.mark.parametrize("brightest", [32768, 65535])
def test_one_bright_picture_is_enough(brightest: int) -> None:
    notes = PictureNotes()
    notes.see(_deep(0, 1023))
    notes.see(_deep(0, brightest))
    assert notes.lines() == ()


def test_floats_with_little_in_them_are_told_with_figures() -> None:
    notes = PictureNotes()
    notes.see_floats(4095 / 65535, "test images")
    notes.see_floats(0.9, "training images")
    (line,) = notes.lines()
    assert "the test images are floating point with values up to 0.0625 of 1" in line
    assert "17 of 256 grey levels" in line


def test_what_is_cut_away_is_told_for_the_widest() -> None:
    notes = PictureNotes()
    notes.crop((10, 16), (8, 8), "usual.png")
    notes.crop((10, 100), (8, 8), "wide.png")
    notes.crop((330, 10), (8, 8), "high.png")
    (line,) = notes.lines()
    assert line.startswith("2 pictures of which more than half is cut away")
    assert "97 % of high.png" in line


def test_names_of_files_can_be_shown() -> None:
    assert shown("a\x1b[2Jb\udcff") == "a?[2Jb?"
    assert shown("x" * 100) == "..." + "x" * 80
