"""What a run says of a component that is not installed, whatever is in its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill_core.cli.choices import packages_of
from registry import UnknownNameError

PART = {"name": "comb", "distribution": "distill-bees", "version": "2.1"}


def said(run: Path, components: Any) -> str:
    (run / "manifest.json").write_text(json.dumps({"format": 1, "components": components}))
    with pytest.raises(UnknownNameError) as caught, packages_of(run):
        raise UnknownNameError("labeler", "comb", known=["soft"], next="see `distill list`.")
    return caught.value.next


def test_the_package_of_the_run_is_named(tmp_path: Path) -> None:
    wanted = "install distill-bees 2.1, which the run used: pip install distill-bees."
    assert said(tmp_path, {"repr": {**PART, "name": "images"}, "labeler": PART}) == wanted


@pytest.mark.parametrize(
    "components",
    [
        None,
        [],
        {"labeler": "comb"},
        {"labeler": {"version": "2.1"}},
        {"labeler": {"name": "comb"}},
        {"labeler": {**PART, "version": None}},
        {"labeler": {**PART, "distribution": "a\x1b[2Jb"}},
        {"labeler": {**PART, "distribution": "(not installed)"}},
        {"labeler": {**PART, "name": "hive"}},
    ],
)
def test_a_manifest_without_it_hides_nothing(components: Any, tmp_path: Path) -> None:
    assert said(tmp_path, components) == "see `distill list`."
