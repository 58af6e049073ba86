"""Evaluations beside a result: their order, their state, and files that nobody can have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill_core.artefact.contents import EVALUATION, METRICS
from distill_core.artefact.evaluations import read_evaluations
from registry import InputError


def write(folder: Path, name: str, row: str, steps: int = 4, **settings: Any) -> None:
    (folder / EVALUATION).mkdir(exist_ok=True)
    body = {"outer_steps": steps, "results": {row: {}}, "settings": {row: settings}}
    (folder / EVALUATION / name).write_text(json.dumps(body))


def test_they_come_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    for name in ("c.json", "a.json", "b.json"):
        write(tmp_path, name, name, evaluate={"protocol": "dc"} if name == "a.json" else {})
    write(tmp_path, "earlier.json", "earlier", steps=3)
    listed = [{"file": "b.json"}, {"file": "a.json"}]
    (tmp_path / METRICS).write_text("".join(f"{json.dumps(line)}\n" for line in listed))
    found = read_evaluations(tmp_path, 4)
    assert [(each.row, each.protocol) for each in found] == [
        ("c.json", "recipe"),
        ("b.json", "recipe"),
        ("a.json", "dc"),
    ]
    assert read_evaluations(tmp_path, None) == []


@pytest.mark.parametrize(
    "body", ["[]", '{"outer_steps": 4}', '{"outer_steps": 4, "results": {"a": 3}}', "{"]
)
def test_a_damaged_file_is_named_with_what_to_do(body: str, tmp_path: Path) -> None:
    write(tmp_path, "a.json", "a")
    (tmp_path / EVALUATION / "a.json").write_text(body)
    with pytest.raises(InputError, match=r"a\.json is damaged") as refused:
        read_evaluations(tmp_path, 4)
    assert "delete it" in refused.value.next
