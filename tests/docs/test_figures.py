"""The figures of the documentation are those that our code draws now."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.distill_core.cli.fakes import ROOT, process

DRAW = "import sys; from pathlib import Path; from docs.figures.draw import main"


def test_figures_are_drawn_with_the_same_bytes(tmp_path: Path) -> None:
    shipped = sorted((ROOT / "docs/images").glob("concept-*.svg"))
    assert len(shipped) == 3
    mark = f"Matplotlib v{version('matplotlib')}, "
    if mark not in shipped[0].read_text(encoding="utf-8"):
        pytest.skip("another version of Matplotlib drew the figures")
    done = process("-c", f"{DRAW}; main(Path(sys.argv[1]))", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for figure in shipped:
        assert (tmp_path / figure.name).read_bytes() == figure.read_bytes(), figure.name
