"""The figures of the documentation are those that our code draws now."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.distill_core.cli.fakes import ROOT
from tests.forks import Fork


def draw(folder: Path) -> None:
    importlib.import_module("docs.figures.draw").main(folder)


def test_figures_are_drawn_with_the_same_bytes(tmp_path: Path) -> None:
    shipped = sorted((ROOT / "docs/images").glob("concept-*.svg"))
    assert len(shipped) == 4
    mark = f"Matplotlib v{version('matplotlib')}, "
    if mark not in shipped[0].read_text(encoding="utf-8"):
        pytest.skip("another version of Matplotlib drew the figures")
    process = Fork(draw, tmp_path, folder=tmp_path / "printed")  # has a style of its own
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    for figure in shipped:
        assert (tmp_path / figure.name).read_bytes() == figure.read_bytes(), figure.name
