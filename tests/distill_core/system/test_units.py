"""Amounts of memory in words."""

from __future__ import annotations

import pytest

from distill_core.config.sections import EngineOptions
from distill_core.system.units import parse_size
from registry import OptionError
from registry.options import check_options


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 * 2**30),
        ("4 GiB", 4 * 2**30),
        ("2G", 2 * 2**30),
        ("500MB", 500_000_000),
        ("0.5T", 2**39),
        ("1KiB", 1024),
        ("1KB", 1000),
    ],
)
def test_amounts(text: str, size: int) -> None:
    assert parse_size(text, what="x") == size


@pytest.mark.parametrize(
    "text",
    ["4", "", "GiB", "4gib", "4GIB", "-1GiB", "0GiB", "1.2.3G", ".5G", "4  GiB", "4Gb", "1e9K"],
)
def test_what_is_none_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_size(text, what="engine.max_memory")
    assert caught.value.what == f"option engine.max_memory = '{text}' is not an amount of memory."
    assert "4GiB" in caught.value.expected


def test_the_option_is_checked_with_the_others() -> None:
    with pytest.raises(OptionError, match="not an amount of memory"):
        check_options(EngineOptions, {"max_memory": "4"}, where="engine")
