"""Bytes against accuracy: what each cell runs, what is kept of it, what is printed and drawn."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from matplotlib.axes import Axes

from distill_core.config.discovery import collect_presets
from distill_core.config.run_config import resolve
from distill_core.config.settings import merge, parse_overrides
from tests.distill_core.cli.fakes import ROOT
from tests.distill_core.cli.small_args import distill
from tests.distill_core.small_run import installed

sys.path.insert(0, str(ROOT / "benchmarks"))
import bytes_book
import bytes_curve as curve
import bytes_figure


def asked(*words: str) -> tuple[Any, list[Any]]:
    args = curve.arguments([*words, "--list"])
    return args, curve.PARTS[args.table](args)


def record(cell: Any, setting: str, seed: int, *test: float) -> dict[str, Any]:
    about = {"name": cell.name, "representation": cell.representation, "algorithm": cell.algorithm}
    one = {"seeds": [seed], "accuracies": [list(test)], "steps": [10], "seconds": [60]}
    return {**about, "dataset": cell.dataset, "setting": setting, "bytes": 1000, **one}


@pytest.mark.parametrize("dataset", ["digits", "cifar10", "cifar100"])
@pytest.mark.parametrize("table", ["curve", "pairs"])
def test_every_run_is_a_configuration_that_holds(dataset, table):
    _, cells = asked("--dataset", dataset, "--table", table)
    known = collect_presets(installed())
    assert len({cell.key for cell in cells}) == len(cells)
    for cell in cells:
        flags = list(zip(cell.words[::2], cell.words[1::2], strict=True))
        chosen: dict[str, Any] = {}
        for flag, value in flags:
            if flag not in ("-o", "--preset"):
                chosen[flag[2:].replace("-", "_")] = value
        preset = dict(flags).get("--preset")
        given = merge(chosen, parse_overrides([value for flag, value in flags if flag == "-o"]))
        config = resolve(merge(known[preset].config if preset else {}, given), installed())
        assert config.algo == cell.algorithm
        assert (config.budget_bytes is None) == (cell.algorithm == "none")
        assert cell.representation.partition(",")[0] in (config.repr, "real images", "coreset")


def test_runs_of_a_cell_are_joined_by_seed():
    args, cells = asked("--dataset", "digits")
    setting = curve.setting_of(args, cells[-1])
    kept: list[dict[str, Any]] = []
    for seed, accuracy in ((1, 50.0), (0, 40.0), (1, 52.0)):
        kept = bytes_book.merged(kept, record(cells[-1], setting, seed, accuracy))
    assert [(each["seeds"], each["accuracies"]) for each in kept] == [([0, 1], [[40.0], [52.0]])]
    other = record(cells[-1], f"{setting}, more", 0, 10.0)
    assert len(bytes_book.merged(kept, other)) == 2


def test_budgets_are_float32_images_and_real_images_have_a_byte_a_number():
    _, cells = asked("--budgets", "0.5")
    words = {cell.name: cell.words for cell in cells}
    assert "61440" in words["fred 0.5"]
    assert words["real images 0.5"][words["real images 0.5"].index("--ipc") + 1] == "2"


def test_a_table_and_a_figure_of_what_is_there(tmp_path):
    book = tmp_path / "book.json"
    words = ("--dataset", "cifar10", "--book", str(book), "--figure", str(tmp_path / "bytes.png"))
    args, cells = asked(*words)
    for name, values in (("fred 1", (60.0, 62.0)), ("real images 1", (30.0,))):
        (cell,) = (each for each in cells if each.name == name)
        curve.keep(book, record(cell, curve.setting_of(args, cell), 0, *values))
    text = "\n".join(curve.listed(cells, args))
    assert "| fred 1 | 1,000 | 61.0 (one seed) | 1 | 10 | 1 |" in text
    assert "| poster 1 | | not measured | | | |" in text
    bytes_figure.draw(cells, args)
    assert (tmp_path / "bytes.png").read_bytes().startswith(b"\x89PNG")
    other, cells = asked(*words, "--minutes", "7")
    with pytest.raises(SystemExit, match=r"nothing is measured with 7 minutes.*There are: 60 min"):
        bytes_figure.draw(cells, other)
    longest, _ = asked(*words, "--minutes", "7", "--longest")
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Axes, "annotate", lambda _, text, *more, **kinds: drawn.append(text))
        bytes_figure.draw(cells, longest)
    assert "1 min, 1 seed" in drawn


def test_the_longest_runs_of_a_cell_are_found_in_any_setting():
    _, cells = asked("--dataset", "cifar10")
    short = {**record(cells[0], "2 minutes", 0, 1.0), "seconds": [120]}
    long = {**record(cells[0], "9 minutes", 0, 2.0), "seconds": [540]}
    other = {**record(cells[1], "60 minutes", 0, 3.0), "seconds": [3600]}
    assert bytes_book.longest(cells[0], [short, long, other]) is long
    assert bytes_book.longest(cells[2], [short, long, other]) is None


def test_pairs_say_which_is_best_and_whether_a_paper_has_it(tmp_path):
    book = tmp_path / "book.json"
    args, cells = asked("--table", "pairs", "--book", str(book))
    for name, accuracy in (("fred x mtt 1", 50.0), ("gsdd x frepo 1", 51.0)):
        (cell,) = (each for each in cells if each.name == name)
        curve.keep(book, record(cell, curve.setting_of(args, cell), 0, accuracy))
    text = "\n".join(curve.table(cells, args))
    assert "50.0 (one seed)*" in text
    assert "**51.0 (one seed)** |" in text
    assert "Best: gsdd x frepo, a pair that we know of no paper." in text


def test_a_table_of_pairs_has_one_budget(capsys):
    """Of several all but the first were left out without a word."""
    _, cells = asked("--table", "pairs", "--budgets", "0.4")
    assert all(cell.name.endswith(" 0.4") for cell in cells)
    with pytest.raises(SystemExit):
        asked("--table", "pairs", "--budgets", "0.4", "1")
    assert "one budget" in capsys.readouterr().err


def test_published_points_have_a_source():
    points = [each.point("cifar10") for each in bytes_book.PUBLISHED if each.point("cifar10")]
    assert (122_880, 66.5) in points
    assert all(each.source and each.point("digits") is None for each in bytes_book.PUBLISHED)


def test_a_judgement_is_of_the_networks_that_the_setting_names(tmp_path):
    """Others may have judged the run (`evaluate.backbones`), or these an earlier state of it."""
    (tmp_path / "evaluation").mkdir()

    def judge(name: str, accuracy: float, steps: int = 9, **rows: tuple[str, int, int]) -> None:
        settings = {
            row: {"backbone": backbone, "options": {"width": width}, "evaluate": {"nets": nets}}
            for row, (backbone, width, nets) in rows.items()
        }
        results = {row: {"distilled": {"accuracies": [accuracy]}} for row in rows}
        found = {"outer_steps": steps, "settings": settings, "results": results}
        (tmp_path / "evaluation" / f"{name}.json").write_text(json.dumps(found))

    judged = curve.judged
    assert judged(tmp_path, 3, 128) is None
    own = {"name": "convnet", "options": {"width": 32}}
    manifest = {
        "format": 1,
        "outer_steps": 9,
        "results": {"distilled": {"accuracies": [0.5, 0.25]}},
        "seconds": 60.4,
        "storage": {"bytes": 1000},
        "components": {"backbone": own},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    judge("narrow", 0.1, convnet=("convnet", 32, 3), other=("other", 128, 3))
    judge("earlier", 0.2, steps=8, convnet=("convnet", 128, 3))
    judge("fewer", 0.3, convnet=("convnet", 128, 2))
    assert judged(tmp_path, 3, 128) is None
    judge("a", 0.625, convnet=("convnet", 128, 3))
    (cell, *_) = asked()[1]
    kept = bytes_book.recorded(cell, 4, "so", tmp_path, nets=3, width=128)
    assert kept == {**record(cell, "so", 4, 62.5), "steps": [9]}
    kept = bytes_book.recorded(cell, 4, "so", tmp_path, nets=2, width=32)
    assert kept == {**record(cell, "so", 4, 50.0, 25.0), "steps": [9]}  # by the run's own


def test_the_networks_that_a_run_asks_itself_make_no_setting():
    args, (cell, *_) = asked()
    told = curve.setting_of(args, cell)
    args.option = ["evaluate.nets=3"]
    assert curve.setting_of(args, cell) == told
    args.option = ["evaluate.nets=3", "algo.batch=50"]
    assert curve.setting_of(args, cell) == f"{told}, algo.batch=50"
    args.option = ["evaluate.every=5", "algo.batch=50"]
    assert curve.setting_of(args, cell) == f"{told}, algo.batch=50, evaluate.every=5"


def test_a_cell_is_run_judged_and_kept_once(tmp_path, monkeypatch):
    small = ("algo.window=2", "algo.total=2", "algo.real_batch=8", "evaluate.nets=1",
             "evaluate.every=0", "evaluate.select=last", "evaluate.steps=2",
             "backbone.width=4")  # fmt: skip
    words = ["--dataset", "digits", "--steps", "1", "--seeds", "0", "--nets", "2", "--width", "4"]
    words += ["--only", "fred, uint8 1", "--out", str(tmp_path), "--book", str(tmp_path / "book")]
    words += [word for option in small for word in ("-o", option)]
    monkeypatch.setattr(sys, "argv", ["bytes_curve.py", *words])
    commands = []

    def here(words: list[str]) -> int:  # in this process, which is warm
        commands.append(words[0])
        result = distill(*words)
        assert result.exit_code == 0, result.output
        return int(result.exit_code)

    monkeypatch.setattr(curve, "distill", here)
    curve.main()
    (kept,) = curve.read(tmp_path / "book")
    assert commands == ["run", "evaluate"]  # which asked one network
    assert (kept["seeds"], kept["steps"], len(kept["accuracies"][0])) == ([0], [1], 2)
    assert 0.5 * 2560 < kept["bytes"] <= 2560
    monkeypatch.setattr(curve, "distill", None)  # would be asked to run it twice
    curve.main()


def test_what_is_there_is_printed_when_a_run_ends_early(tmp_path, monkeypatch, capsys):
    words = ["--dataset", "digits", "--steps", "1", "--seeds", "0", "--only", "fred 1", "images 1"]
    words += ["--out", str(tmp_path), "--book", str(tmp_path / "book")]
    args = curve.arguments(words)
    images, fred = [each for each in curve.PARTS["curve"](args) if each.name in args.only]
    curve.keep(args.book, record(images, curve.setting_of(args, images), 0, 40.0, 42.0))
    curve.keep(args.book, record(fred, "another setting", 0, 50.0))
    monkeypatch.setattr(curve, "distill", lambda words: 130)
    monkeypatch.setattr(sys, "argv", ["bytes_curve.py", *words])
    with pytest.raises(SystemExit, match=r"no results of .*fred-1.*The same command goes on"):
        curve.main()
    said = capsys.readouterr().out
    assert "| images 1 | 1,000 | 41.0 (one seed) | 1 |" in said
    assert "| fred 1 | | not measured |" in said
    assert "kept of these cells, too, in other settings: another setting" in said
