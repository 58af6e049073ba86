"""ROWSxCOLS: one way to write sizes, in options, files and messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.config.grid_shape import GridShape, format_grid, parse_grid
from registry import OptionError, Options, check_options

sides = st.integers(1, 10_000)


class Sized(Options):
    """An option of this type, and one that may be left out."""

    size: GridShape = (6, 16)
    patches: GridShape | None = None


@given(sides, sides)
def test_what_is_written_is_read(rows: int, cols: int) -> None:
    assert parse_grid(format_grid((rows, cols))) == (rows, cols)


@given(sides, sides)
def test_options_survive_writing_and_reading(rows: int, cols: int) -> None:
    options = Sized(size=(rows, cols), patches=(cols, rows))
    written = options.model_dump(mode="json")
    assert written == {"size": f"{rows}x{cols}", "patches": f"{cols}x{rows}"}
    assert check_options(Sized, written, where="repr") == options


@pytest.mark.parametrize("value", ["6x16", " 6 x 16 ", "06x16", (6, 16), [6, 16]])
def test_forms_that_are_read(value: Any) -> None:
    assert parse_grid(value) == (6, 16)


@pytest.mark.parametrize(
    "value", ["", "6", "6x", "x16", "6x16x3", "0x4", "4x0", "-1x4", "6X16", "1.5x2", [6], (1, 2, 3),
              (0, 1), (1.5, 2), ("a", "b"), 96, None]
)  # fmt: skip
def test_forms_that_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="two positive whole numbers as ROWSxCOLS"):
        parse_grid(value)


def test_the_error_shows_the_value_and_the_form() -> None:
    with pytest.raises(OptionError) as caught:
        check_options(Sized, {"size": "6*16"}, where="repr")
    assert str(caught.value).splitlines()[:2] == [
        "option repr.size = '6*16' is not valid.",
        "Expected repr.size: two positive whole numbers as ROWSxCOLS, for example 6x16.",
    ]


def test_the_schema_names_the_form() -> None:
    assert Sized.model_json_schema()["properties"]["size"]["format"] == "ROWSxCOLS"
