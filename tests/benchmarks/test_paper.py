"""The paper's tables and figures: what each runs, what is kept of it, and what is printed."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distill_core.cli import run
from distill_core.config.discovery import collect_presets
from distill_core.config.run_config import resolve
from distill_core.config.settings import merge, parse_overrides
from distill_core.plugin import cosine_distances, ordering_score
from podd_plugin.presets import presets
from tests.distill_core.cli.fakes import ROOT
from tests.distill_core.cli.small_args import distill
from tests.distill_core.small_run import installed

sys.path.insert(0, str(ROOT / "benchmarks"))
import cell_runs
import paper
import paper_orders


def asked(*words: str) -> tuple[str, Any]:
    return paper.arguments([*words, "--data", "cifar10=c10.zip", "--data", "cifar100=c100.zip"])


def cells_of(part: str, args: Any) -> list[Any]:
    return paper.chosen(paper.PARTS[part](args), args.only, part)


def record(cell: Any, scale: str, seed: int, *test: float, **more: Any) -> dict[str, Any]:
    kept = {"cell": cell.key, "scale": scale, "seed": seed, "steps": 10, "seconds": 60}
    return {**kept, "curve": [], "test": list(test), **more}


@pytest.mark.parametrize(
    "part",
    [("--table", "1"), ("--table", "2"), ("--figure", "6"), ("--figure", "9"),
     ("--ablation", "order")],
)  # fmt: skip
@pytest.mark.parametrize("full", [(), ("--full",)], ids=["core", "full"])
def test_every_run_is_a_configuration_that_holds(part, full, tmp_path):
    """With embeddings, too: images have no order, and their orderer takes none."""
    file = tmp_path / "names.npz"
    file.touch()
    embedded = [f"{name}={file}" for name in ("cifar10", "cifar100")]
    given = [word for each in embedded for word in ("--embeddings", each)]
    name, args = asked(*part, *full, "--out", str(tmp_path), *given)
    known = collect_presets(installed())
    for cell in paper.PARTS[name](args):
        words = [*cell.words, *paper.place(cell, args)]
        flags = dict(zip(words[::2], words[1::2], strict=True))
        pairs = [value for flag, value in zip(words[::2], words[1::2], strict=True) if flag == "-o"]
        assert set(flags) <= {
            "-o", "--preset", "--dataset", "--ipc", "--repr", "--labeler", "--orderer", "--algo"
        }  # fmt: skip
        chosen = {
            flag[2:]: value for flag, value in flags.items() if flag not in ("-o", "--preset")
        }
        config = resolve(
            merge(
                known[flags["--preset"]].config if "--preset" in flags else {},
                merge(chosen, parse_overrides(pairs)),
            ),
            installed(),
        )
        assert config.dataset in ("imagefolder", "cub200", "tiny_imagenet")
        poco = config.orderer == "poco" and cell.dataset in args.embeddings
        assert (getattr(config.options["orderer"], "file", None) == file) == poco


def test_the_published_scale_is_the_presets():
    name, args = asked("--table", "1", "--full")
    cells = paper.PARTS[name](args)
    run = {cell.words for cell in cells}
    assert {("--preset", preset.name) for preset in presets()} < run
    assert {cell.printed for cell in cells} >= {"59.1 +- 0.5", "53.2 +- 0.7", "34.7 +- 0.2"}


def test_steps_that_the_paper_fixes_and_options_hold_at_the_published_scale(tmp_path):
    name, args = asked("--figure", "6", "--full", "-o", "evaluate.nets=2")
    for cell in paper.PARTS[name](args):
        words = paper.command(cell, 0, tmp_path / "new", args)
        assert words[words.index("--steps") + 1] == "500"
        assert paper.scale_of(args, cell) == "published, evaluate.nets=2"
    name, args = asked("--table", "1", "--full")
    cell = paper.PARTS[name](args)[0]
    assert "--steps" not in paper.command(cell, 0, tmp_path / "new", args)
    assert paper.scale_of(args, cell) == "published"
    name, args = asked("--table", "1", "--full", "--steps", "9")
    assert "9" in paper.command(cell, 0, tmp_path / "new", args)
    assert paper.scale_of(args, cell) == "published, 9 steps"


def test_options_make_one_scale_in_any_order():
    name, args = asked("--table", "1", "--steps", "9", "-o", "b.x=2", "-o", "a.y=1", "-o", "b.x=1")
    cell = paper.PARTS[name](args)[0]
    assert paper.scale_of(args, cell) == "9 steps, a.y=1, b.x=2, b.x=1"  # the last b.x counts


def test_orders_differ_in_nothing_but_the_order(tmp_path):
    name, args = asked("--ablation", "order", "--out", str(tmp_path))
    cells = paper.PARTS[name](args)
    grids = [Path(cell.words[-1].partition("=")[2]).read_text() for cell in cells]
    assert len(set(grids)) == 8
    assert len({cell.words[:-1] for cell in cells}) == 1
    assert {cell.steps for cell in cells} == {250}


def test_a_report_of_orders_writes_none(tmp_path):
    name, args = asked("--ablation", "order", "--out", str(tmp_path), "--report")
    assert len(paper.PARTS[name](args)) == 8
    assert not list(tmp_path.iterdir())


def test_a_table_has_means_over_seeds_and_no_seed_twice(tmp_path):
    name, args = asked("--table", "1", "--book", str(tmp_path / "book.json"))
    cell = paper.PARTS[name](args)[1]
    scale = paper.scale_of(args, cell)
    for seed, test in ((0, (40.0, 42.0)), (1, (43.0, 45.0)), (0, (41.0, 43.0))):
        paper.keep(args.book, record(cell, scale, seed, *test))
    text = "\n".join(paper.report(name, [cell], args))
    assert "| cifar10 | poster 1.0 | 59.1 +- 0.5 | 43.0 +- 1.4 | +- 1.4 | 2 x 2 | 10 | 1 |" in text


def test_other_options_and_lengths_are_other_rows():
    for words in ((), ("--minutes", "5"), ("--steps", "9"), ("-o", "backbone.width=8")):
        name, args = asked("--table", "1", *words)
        cell = paper.PARTS[name](args)[0]
        wanted = {(): "60 minutes", ("--steps", "9"): "9 steps", ("--minutes", "5"): "5 minutes"}
        expected = wanted.get(words, "60 minutes, backbone.width=8")
        assert paper.scale_of(args, cell) == expected


def test_orders_are_scored_as_in_the_paper(tmp_path):
    names = [f"class {number}" for number in range(10)]
    embeddings = np.random.default_rng(0).normal(size=(10, 4))
    np.savez(tmp_path / "names.npz", embeddings=embeddings, names=np.array(names))
    words = ("--out", str(tmp_path), "--book", str(tmp_path / "book.json"))
    place = ("--embeddings", f"cifar10={tmp_path / 'names.npz'}")
    name, args = asked("--ablation", "order", "--orders", "5", *words, *place)
    cells = paper.PARTS[name](args)
    distances = cosine_distances(torch.from_numpy(embeddings))
    for number, cell in enumerate(cells):
        grid = torch.randperm(10, generator=torch.Generator().manual_seed(number)).view(2, 5)
        accuracy = 50 - 3 * ordering_score(grid, distances)
        order = [[names[label] for label in row] for row in grid.tolist()]
        paper.keep(args.book, record(cell, "250 steps", 0, accuracy, order=order))
    given = ("250 steps", args.embeddings["cifar10"])
    *rows, said = paper_orders.correlation(cells, paper.finished(args.book), *given)
    assert len([row for row in rows if row.startswith("| order ")]) == 1 + 5
    assert said.startswith("Correlation of 5 orders: -1.00, 95 % interval -1.00 to -1.00")
    *_, said = paper_orders.correlation(cells[:3], paper.finished(args.book), *given)
    assert "3 orders are too few" in said
    absent = (paper.finished(args.book), "250 steps", str(tmp_path / "no.npz"))
    assert "pass --embeddings" in next(paper_orders.correlation(cells, *absent))
    order[1][0] = "dog"
    paper.keep(args.book, record(cells[0], "250 steps", 0, 40.0, order=order))
    with pytest.raises(SystemExit, match=r"names.npz has no dog, which"):
        list(paper_orders.correlation(cells, paper.finished(args.book), *given))


def test_a_run_that_another_process_has_just_kept_is_left(tmp_path, monkeypatch):
    words = ("--only", "poster 0.4", "--seeds", "0", "--book", str(tmp_path / "book.json"))
    name, args = asked("--table", "1", *words, "--out", str(tmp_path))
    (cell, *_) = cells = [each for each in paper.PARTS[name](args) if each.name in args.only][:1]

    @contextmanager
    def claimed(path):
        paper.keep(args.book, record(cell, "60 minutes", 0, 50.0))
        yield True

    monkeypatch.setattr(cell_runs, "claimed", claimed)
    calls = []
    ways = (paper.name_of, paper.is_kept, lambda *given: calls.append(given))
    assert cell_runs.run_all(cells, args, *ways) == ""
    assert not calls


def test_runs_that_the_book_has_are_counted_and_not_made(tmp_path, capsys):
    words = ("--only", "poster 0.4", "--seeds", "0,1", "--book", str(tmp_path / "book.json"))
    name, args = asked("--table", "1", *words, "--out", str(tmp_path))
    cells = [each for each in paper.PARTS[name](args) if each.name in args.only][:1]
    for seed in (0, 1):
        paper.keep(args.book, record(cells[0], "60 minutes", seed, 50.0))
    calls = []
    ways = (paper.name_of, paper.is_kept, lambda *given: calls.append(given))
    assert cell_runs.run_all(cells, args, *ways) == ""
    assert not calls
    assert f"2 of 2 runs are kept in {args.book}; another --book" in capsys.readouterr().out


def pictures_in(folder):
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 1)):
        for label in range(10):
            for number in range(count):
                path = folder / split / f"class{label}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


def test_a_cell_is_run_once_and_kept(tmp_path, monkeypatch):
    pictures_in(tmp_path / "data")
    small = ("backbone.width=4", "algo.window=2", "algo.total=2", "algo.real_batch=8",
             "evaluate.nets=1", "evaluate.steps=2", "evaluate.every=0", "evaluate.select=last",
             "data.whitening=standardise", "engine.path=autograd")  # fmt: skip
    words = ["--table", "1", "--steps", "1", "--seeds", "0", "--only", "poster 0.4"]
    words += ["--out", str(tmp_path / "out"), "--book", str(tmp_path / "book.json")]
    words += ["--data", f"cifar10={tmp_path / 'data'}"]
    words += [word for option in small for word in ("-o", option)]
    monkeypatch.setattr(sys, "argv", ["paper.py", *words])

    def here(words: list[str]) -> int:  # in this process, which is warm
        result = distill(*words)
        assert result.exit_code == 0, result.output
        return int(result.exit_code)

    monkeypatch.setattr(paper, "distill", here)
    paper.main()
    kept = paper.finished(tmp_path / "book.json")
    assert [(each["cell"], each["steps"], len(each["test"])) for each in kept] == [
        ("cifar10-poster-0.4", 1, 1)
    ]
    assert 0.39 < kept[0]["ipc"] <= 0.4
    monkeypatch.setattr(paper, "distill", None)  # would be asked to run it twice
    paper.main()
    (tmp_path / "data").rename(tmp_path / "moved")  # a run goes on where its data are now
    (tmp_path / "book.json").unlink()
    monkeypatch.setattr(paper, "distill", here)
    monkeypatch.setattr(
        sys, "argv", ["paper.py", *words, "--data", f"cifar10={tmp_path / 'moved'}"]
    )
    paper.main()
    assert paper.finished(tmp_path / "book.json") == kept


def test_what_is_there_is_printed_when_a_run_fails_or_is_interrupted(tmp_path, monkeypatch, capsys):
    words = ["--table", "1", "--data", f"cifar10={tmp_path}", "--seeds", "0,1"]
    words += ["--only", "images 1.0", "poster 0.4"]
    words += ["--out", str(tmp_path / "out"), "--book", str(tmp_path / "book.json")]
    part, args = paper.arguments(words)
    images, _ = cells_of(part, args)
    paper.keep(args.book, record(images, "60 minutes", 0, 40.0, 42.0))
    runs = []

    def interrupted(words: list[str]) -> int:
        runs.append(words)
        return 130

    monkeypatch.setattr(paper, "distill", interrupted)
    monkeypatch.setattr(sys, "argv", ["paper.py", *words])
    with pytest.raises(SystemExit, match=r"poster-0.4.*interrupted or refused.*same command"):
        paper.main()
    assert len(runs) == 1
    said = capsys.readouterr().out
    assert "| images 1.0 | 53.2 +- 0.7 | 41.0 (one seed) | +- 1.4 | 1 x 2 |" in said
    assert "| poster 0.4 | 47.1 +- 0.4 | not measured |" in said


@pytest.mark.parametrize("flag", ["--data", "--embeddings"])
def test_a_path_that_is_not_there_is_refused_by_its_own_flag(flag, tmp_path, monkeypatch):
    words = ["--figure", "6", "--data", f"cifar10={tmp_path}", flag, f"cifar10={tmp_path / 'no'}"]
    monkeypatch.setattr(sys, "argv", ["paper.py", *words, "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=rf"^{flag} cifar10=.*no: there is no such path"):
        paper.main()


def test_a_run_that_is_gone_on_with_is_told_where_its_images_are_alone(tmp_path):
    given = ("--embeddings", f"cifar10={tmp_path / 'clip.npz'}", "--only", "poster 0.4")
    part, args = asked("--table", "1", *given)
    cell = cells_of(part, args)[0]
    assert "orderer.similarity=file" in cell_runs.command(cell, 0, tmp_path, args)
    (tmp_path / "run.toml").touch()
    assert cell_runs.command(cell, 0, tmp_path, args) == [
        *("run", "--resume", "--out", str(tmp_path), "--dataset", "imagefolder"),
        *("-o", f"dataset.path={Path('c10.zip').resolve()}"),
    ]


def test_a_figure_whose_runs_are_elsewhere_says_so(tmp_path):
    part, args = asked("--figure", "8", "--out", str(tmp_path), "--book", str(tmp_path / "b.json"))
    cells = cells_of(part, args)
    paper.keep(args.book, record(cells[0], "60 minutes", 0, 50.0))
    (said,) = paper.pictures(part, cells, args)
    assert "is not here, only its figures" in said


def test_names_of_no_cell_are_refused():
    part, args = asked("--table", "1", "--only", "images 1.0", "postre 0.4")
    with pytest.raises(SystemExit, match=r"no cell 'postre 0.4': table 1 has images 1\.0, poster"):
        cells_of(part, args)


def test_a_poster_per_class_is_of_cifar10_for_all_published_steps():
    """`--full` needs no --data, and then names none: digits would be the dataset."""
    part, args = paper.arguments(["--figure", "9", "--full"])
    (cell,) = paper.PARTS[part](args)
    words = paper.command(cell, 0, Path("new"), args)
    begun = run.command.make_context("run", words[1:]).params
    preset = collect_presets(installed())[begun["preset"]].config
    assert (preset["dataset"], preset["steps"]) == ("cifar10", 5000)
    assert "--dataset" not in words


def test_standard_folders_of_birds_and_of_tiny_imagenet_are_read_as_such():
    words = ("--data", "cub200=CUB_200_2011", "--data", "tiny-imagenet=tiny.zip")
    part, args = paper.arguments(["--table", "1", *words])
    for cell in cells_of(part, args):
        name = cell.dataset.replace("-", "_")
        place = paper.place(cell, args)
        assert place[:2] == ("--dataset", name)
        assert place[3].startswith("dataset.root=/")


def test_figure_7_reads_cifar100_and_keeps_nothing(tmp_path, monkeypatch, capsys):
    asked_for = []

    def run_it(words: list[str]) -> int:
        asked_for.append(words)
        return 3

    monkeypatch.setattr(paper, "distill", run_it)
    _, args = paper.arguments(["--figure", "7", "--full", "--out", str(tmp_path)])
    assert paper.figure_7(args) == 3
    assert asked_for[0][-2:] == ["--dataset", "cifar100"]
    with pytest.raises(SystemExit):
        paper.arguments(["--figure", "7", "--report", "--data", "cifar100=c100.zip"])
    assert "leave --report out" in capsys.readouterr().err


def test_a_report_names_what_is_kept_of_other_lengths(tmp_path):
    part, args = asked("--table", "1", "--steps", "10", "--report")
    args.book = tmp_path / "book.json"
    cell = cells_of(part, args)[0]
    paper.keep(args.book, record(cell, "5000 steps", 0, 43.0))
    shown = "\n".join(paper.report(part, cells_of(part, args), args))
    assert "kept of these cells, too, for other lengths or -o: 5000 steps" in shown


@pytest.mark.parametrize("part", [("--figure", "6"), ("--ablation", "order")])
def test_outer_steps_that_the_paper_fixes_are_not_taken(capsys, part):
    with pytest.raises(SystemExit):
        asked(*part, "--steps", "9")
    assert f"{part[0][2:]} {part[1]} has the paper's outer steps: leave" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "given", "wanted"),
    [
        (("--figure", "7"), "cifar10", "cifar100"),
        (("--figure", "6"), "cifar100", "cifar10"),
        (("--ablation", "order"), "cifar100", "cifar10"),
        (("--table", "1"), "", "DATASET"),
    ],
)
def test_a_part_without_its_data_is_refused(capsys, part, given, wanted):
    with pytest.raises(SystemExit):
        paper.arguments([*part, *(("--data", f"{given}=c.zip") if given else ())])
    assert f"--data {wanted}=PATH" in capsys.readouterr().err
