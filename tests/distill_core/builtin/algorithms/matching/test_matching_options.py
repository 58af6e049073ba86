"""Options of the matching methods."""

from __future__ import annotations

import pytest

from distill_core.builtin.algorithms.matching.options import (
    DcOptions,
    DsaOptions,
    published_loops,
)


@pytest.mark.parametrize(
    ("ipc", "loops"),
    [(1, (1, 1)), (10, (10, 50)), (20, (20, 25)), (30, (30, 20)), (40, (40, 15)), (50, (50, 10))],
)
def test_loops_are_those_of_the_published_table(ipc: int, loops: tuple[int, int]) -> None:
    assert published_loops(ipc) == DcOptions().loops(ipc) == loops


def test_loops_in_between_are_interpolated_and_options_win() -> None:
    assert published_loops(2) == (2, 6)
    assert published_loops(25) == (25, 22)
    assert DcOptions().loops(0.4) == (1, 1)
    assert DcOptions().loops(9.6) == (10, 50)
    assert DcOptions(outer_loop=3).loops(10) == (3, 50)
    assert DcOptions(inner_loop=0).loops(10) == (10, 0)


def test_dsa_is_dc_with_augmentation() -> None:
    dc, dsa = DcOptions().model_dump(), DsaOptions().model_dump()
    assert {name for name in dc if dc[name] != dsa[name]} == {"augment"}
    assert (dc["augment"], dsa["augment"]) == ("none", "dsa")
