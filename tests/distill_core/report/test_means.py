"""Means over seeds, and accuracy by budget, of runs written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_core.report.curves import budget_chart
from distill_core.report.means import grouped, stored, table
from distill_core.report.page import several
from distill_core.report.record import RunRecord, read_run
from distill_core.report.svg import SIZES
from tests.distill_core.report.test_compare import write_evaluation, write_run


def made(folder: Path, seed: int, ipc: float = 0.5, mean: float = 0.5) -> RunRecord:
    path = write_run(
        folder / f"{ipc}-{seed}", mean, budget={"ipc": ipc, "pixels": 1, "label_numbers": 1}
    )
    text = (path / "run.toml").read_text().replace("ipc = 0.5", f"ipc = {ipc}")
    (path / "run.toml").write_text(f"{text}\nseed = {seed}\nthreads = {seed + 1}\n")
    return read_run(path)


def test_runs_that_differ_in_their_seed_are_one_row(tmp_path: Path) -> None:
    runs = [made(tmp_path, 0), made(tmp_path, 1, mean=0.6), made(tmp_path, 0, 1.0, 0.8)]
    groups = grouped(runs)
    assert [(group.label(), len(group.records)) for group in groups] == [
        ("ipc=0.5", 2),
        ("ipc=1.0", 1),
    ]
    _, rows = table(groups)
    assert rows == [
        ["ipc=0.5", "convnet", "2", "", "55.0 +- 7.1", "25.0 +- 0.0", ""],
        ["ipc=1.0", "convnet", "1", "", "80.0", "25.0", ""],
    ]
    page = several(runs, {})
    assert "Means over seeds" in page
    assert "Accuracy by budget" in page


def test_a_copy_of_a_run_is_no_further_seed(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    places = ((tmp_path, 0, 0.5), (tmp_path, 1, 0.6), (tmp_path / "copy", 1, 0.6))
    runs = [made(folder, seed, mean=mean) for folder, seed, mean in places]
    _, rows = table(grouped(runs))
    assert rows == [
        ["poster/poddl/poco/bptt", "convnet", "2", "", "55.0 +- 7.1", "25.0 +- 0.0", ""]
    ]


def test_a_seed_that_was_edited_into_a_list_is_one_seed(tmp_path: Path) -> None:
    made(tmp_path, 1)
    run = tmp_path / "0.5-1"
    (run / "run.toml").write_text((run / "run.toml").read_text().replace("seed = 1", "seed = [1]"))
    _, rows = table(grouped([made(tmp_path, 0, mean=0.6), read_run(run)]))
    assert rows[0][4] == "55.0 +- 7.1"


def test_options_of_other_components_do_not_tell_runs_apart(tmp_path: Path) -> None:
    options = {
        "a": ("bptt", "[options.algo]\nsteps = 3\nwindow = 9"),
        "b": ("bptt", "[options.algo]\nsteps = 5\nwindow = 9"),
        "c": ("none", "[options.algo]\nlr = 0.1"),
    }
    runs = []
    for name, (algorithm, table_) in options.items():
        path = write_run(tmp_path / name)
        text = (path / "run.toml").read_text().replace('algo = "bptt"', f'algo = "{algorithm}"')
        (path / "run.toml").write_text(f"{text}\n{table_}\n")
        runs.append(read_run(path))
    labels = [group.label() for group in grouped(runs)]
    assert labels == ["algo=bptt, algo.steps=3", "algo=bptt, algo.steps=5", "algo=none"]


def test_every_network_that_judged_has_a_row(tmp_path: Path) -> None:
    runs = [made(tmp_path, seed) for seed in (0, 1)]
    for record, accuracy in zip(runs, (0.3, 0.5), strict=True):
        write_evaluation(record.path, "a-12345678.json", **{"timm:resnet18": accuracy})
    _, rows = table(grouped([read_run(record.path) for record in runs]))
    assert [row[:3] + row[4:5] for row in rows] == [
        ["poster/poddl/poco/bptt", "convnet", "2", "50.0 +- 0.0"],
        ["poster/poddl/poco/bptt", "timm:resnet18", "2", "40.0 +- 14.1"],
    ]


def test_bytes_are_those_of_all_runs_of_a_row() -> None:
    runs = [{"storage": {"bytes": number}} for number in (700, 600, 650)]
    assert stored(runs[:1] * 2) == "700"
    assert stored([*runs, {"storage": None}]) == "600 to 700"


@pytest.mark.parametrize(("budgets", "drawn"), [((0.5, 0.5), False), ((0.5, 1.0), True)])
def test_budgets_are_an_axis_only_where_they_differ(
    tmp_path: Path, budgets: tuple[float, ...], drawn: bool
) -> None:
    groups = grouped([made(tmp_path, seed, ipc) for seed, ipc in enumerate(budgets)])
    chart = budget_chart(groups)
    assert bool(chart) == drawn
    assert chart.count("<polyline") == len(SIZES) * drawn


def test_a_budget_is_one_point_with_a_bar_over_seeds(tmp_path: Path) -> None:
    runs = [made(tmp_path, 0), made(tmp_path, 1, mean=0.6), made(tmp_path, 2, 1.0)]
    chart = budget_chart(grouped(runs))
    assert chart.count("<circle") == 2 * len(SIZES)
    assert "over seeds" in chart
    alone = budget_chart(grouped([runs[0], runs[2]]))
    assert "over seeds" not in alone
