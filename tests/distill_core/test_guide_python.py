"""The Python of docs/guide/python.md runs, top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from distill_core.artefact import load

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "python.md"


def test_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    assert load(tmp_path / "runs" / "mine").class_names[0] == "zero"
    assert names["result"].distilled.class_names == ("red", "green", "blue")
    printed = capsys.readouterr().out
    assert "Did you mean 'ratbptt'?" in printed
