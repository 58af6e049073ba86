"""Accuracy against outer steps in benchmarks/paper.py: fits, crossings, drawings."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.distill_core.cli.fakes import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import paper


def asked(*words: str) -> tuple[str, Any]:
    return paper.arguments([*words, "--data", "cifar10=c10.zip"])


def record(cell: Any, seed: int, curve: list[list[float]]) -> dict[str, Any]:
    kept = {"cell": cell.key, "scale": "9 steps", "seed": seed, "steps": 9, "seconds": 60}
    return {**kept, "curve": curve, "test": [40.0]}


def test_curves_are_fitted_and_cross_where_they_are_equal(tmp_path):
    name, args = asked("--table", "1", "--steps", "9", "--book", str(tmp_path / "book.json"))
    args.curves, args.draw = True, tmp_path / "curves.png"
    images, poster = paper.PARTS[name](args)[:2]
    for cell, limit, slope in ((images, 50.0, 200.0), (poster, 45.0, 100.0)):
        for seed, noise in ((0, 1.0), (1, -1.0)):
            curve = [[step, limit - slope / step**0.5 + noise] for step in (25, 100, 400, 900)]
            paper.keep(args.book, record(cell, seed, curve))
    lines = "\n".join(paper.report(name, [images, poster], args)).splitlines()
    assert "- cifar10, images 1.0: fitted limit 50.0" in lines
    assert "- cifar10, poster 1.0: fitted limit 45.0" in lines
    # 50 - 200 / 20 = 45 - 100 / 20 = 40
    assert "- cifar10, images 1.0 and poster 1.0: the fits cross after 400 outer steps" in lines
    assert args.draw.stat().st_size > 1000


def test_parallel_curves_and_short_ones_do_not_cross(tmp_path):
    name, args = asked("--table", "1", "--steps", "9", "--book", str(tmp_path / "book.json"))
    args.curves, args.draw = True, tmp_path / "curves.png"
    one, other, short = paper.PARTS[name](args)[:3]
    for cell, limit in ((one, 50.0), (other, 45.0)):
        curve = [[step, limit - 100 / step**0.5] for step in (25, 100, 400, 900)]
        paper.keep(args.book, record(cell, 0, curve))
    paper.keep(args.book, record(short, 0, [[25, 30.0], [100, 35.0]]))
    text = "\n".join(paper.report(name, [one, other, short], args))
    assert "images 1.0 and poster 1.0: the fits never cross" in text
    assert f"{short.name}: fitted" not in text


def test_runs_with_a_further_option_are_lines_of_their_own(tmp_path):
    name, args = asked(
        *("--table", "1", "--steps", "9", "--book", str(tmp_path / "book.json")),
        *("--curves", "--also", "repr.init=real", "--also", "labeler.pooling=area"),
    )
    args.draw = tmp_path / "curves.png"
    images, poster = paper.PARTS[name](args)[:2]
    curve = [[step, 50 - 200 / step**0.5] for step in (25, 100, 400, 900)]
    paper.keep(args.book, record(images, 0, curve))
    higher = [[step, 45 - 100 / step**0.5] for step in (25, 100, 400, 900)]
    paper.keep(args.book, record(poster, 0, higher) | {"scale": "9 steps, repr.init=real"})
    text = "\n".join(paper.report(name, [images, poster], args))
    crossing = "images 1.0 and poster 1.0, repr.init=real: the fits cross after 400 outer steps"
    assert crossing in text
    assert "pooling" not in text.partition("kept of these cells")[0]  # no run has it
    assert args.draw.stat().st_size > 1000


def test_a_further_option_without_curves_is_refused(capsys):
    with pytest.raises(SystemExit):
        asked("--table", "1", "--steps", "9", "--also", "repr.init=real")
    assert "--also adds curves" in capsys.readouterr().err


def test_a_drawing_of_nothing_is_refused(tmp_path):
    name, args = asked("--table", "1", "--steps", "9", "--book", str(tmp_path / "book.json"))
    args.draw = tmp_path / "curves.png"
    paper.keep(args.book, record(paper.PARTS[name](args)[0], 0, []))  # not validated
    with pytest.raises(SystemExit, match="nothing to draw"):
        list(paper.report(name, paper.PARTS[name](args), args))
    assert not args.draw.exists()
