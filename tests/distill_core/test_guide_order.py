"""The first command of docs/guide/order-classes.md prints what the page says, and draws it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.distill_core.cli.fakes import ROOT, distill

DOCS = ROOT / "docs"


def test_the_guide_shows_what_is_printed_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (DOCS / "guide" / "order-classes.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ distill (.*)$", text, re.MULTILINE)
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    monkeypatch.chdir(tmp_path)
    result = distill(*shlex.split(commands[0]))
    assert result.stdout == shown[1]
    with Image.open("order-digits.png") as new, Image.open(DOCS / "images/order-digits.png") as old:
        assert np.array_equal(np.asarray(new), np.asarray(old))
    again = distill(*shlex.split(commands[1]), "--dry-run")
    assert again.exit_code == 0, again.stderr
