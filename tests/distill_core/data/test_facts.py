"""Answers about kept images: found once, and found anew where the file cannot be believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distill_core.data.facts import Facts

MEAN = [0.1, 0.25]


def _fail() -> object:
    raise AssertionError("found out again")


def test_what_was_found_is_known_for_the_same_images_alone(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    assert Facts(path, "these")("mean", lambda: MEAN) == MEAN
    assert Facts(path, "these")("mean", _fail) == MEAN
    assert Facts(path, "others")("mean", lambda: [0.5]) == [0.5]


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: text.replace("0.25", "0.35"),  # another number
        lambda text: text[:-9],  # cut
        lambda text: "[]",
        lambda text: '{"about": "these", "facts": {"mean": [0.35]}}',  # without a digest
        lambda text: '{"sha256": "", "facts": null}',
    ],
)
def test_what_is_damaged_is_found_anew(harm: Callable[[str], str], tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    Facts(path, "these")("mean", lambda: MEAN)
    path.write_text(harm(path.read_text()))
    assert Facts(path, "these")("mean", lambda: MEAN) == MEAN
    assert Facts(path, "these")("mean", _fail) == MEAN
