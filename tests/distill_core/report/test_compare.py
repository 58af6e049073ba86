"""Run directories written by hand: the numbers in the table are those of the files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from distill_core.hookspecs import Preset
from distill_core.report.compare import compare, markdown, read_runs
from distill_core.report.page import several
from distill_core.report.record import read_run
from registry import InputError, UnknownNameError
from tests.distill_core.cli.fakes import distill

CONFIG = {"repr": "poster", "labeler": "poddl", "orderer": "poco", "algo": "bptt", "ipc": 0.5}


def result(mean: float, nets: int = 2) -> dict[str, Any]:
    return {"mean": mean, "std": 0.01 if nets > 1 else None, "accuracies": [mean] * nets}


def write_run(path: Path, mean: float | None = 0.5, **changes: Any) -> Path:
    path.mkdir()
    lines = [f"{key} = {json.dumps(value)}" for key, value in CONFIG.items()]
    (path / "run.toml").write_text("\n".join([*lines, 'dataset = "digits"']))
    manifest = {
        "format": 1,
        "components": {"backbone": {"name": "convnet", "options": {"width": 16}}},
        "budget": {"ipc": 0.5, "pixels": 320.0, "label_numbers": 100},
        "outer_steps": 40,
        "seconds": 10.0,
        "peak_memory": 3 * 2**20,
        "results": {} if mean is None else {"distilled": result(mean), "random": result(0.25, 1)},
    }
    (path / "manifest.json").write_text(json.dumps(manifest | changes))
    return path


def write_evaluation(run: Path, name: str, *, outer_steps: int = 40, **means: float) -> None:
    """Write what `distill evaluate` does: the file, then its line in metrics.jsonl."""
    (run / "evaluation").mkdir(exist_ok=True)
    body = {
        "outer_steps": outer_steps,
        "settings": {row: {"backbone": row, "options": {}} for row in means},
        "results": {row: {"distilled": result(mean, 3)} for row, mean in means.items()},
    }
    (run / "evaluation" / name).write_text(json.dumps(body))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "cross evaluation", "step": 40, "file": name}) + "\n")


def test_numbers_of_a_row(tmp_path: Path) -> None:
    records, failures = read_runs([write_run(tmp_path / "a")])
    (row,) = compare(records, {})
    assert not failures
    assert row["method"] == "poster/poddl/poco/bptt"
    assert row["seconds_per_step"] == 0.25
    assert row["backbone"] == "convnet 16, 2 nets"
    cells = [cell.strip() for cell in markdown([row]).splitlines()[-1].strip("|").split("|")]
    assert cells == [
        *("a", "poster/poddl/poco/bptt", "digits", "0.5", "50.0 +- 1.0", "25.0"),
        *("convnet 16, 2 nets", "320", "100", "40", "0.25", "3 MiB"),
    ]
    assert "equal bytes" not in markdown([row])  # a column without a value in any row is left out
    assert "| real, equal bytes % |" in markdown([{**row, "random_bytes": 3.0}, row])


def test_a_run_that_measured_its_storage_shows_it(tmp_path: Path) -> None:
    storage = {
        "numbers": 1060, "bytes": 2020, "label_bytes": 100, "bits_per_class": 1616.0,
        "ipc_pixels": 0.52, "ipc_bytes": 0.263, "whitening_bytes": 0,
    }  # fmt: skip
    (row,) = compare([read_run(write_run(tmp_path / "a", storage=storage))], {})
    text = markdown([row]).splitlines()[-1]
    assert "| 1060 | 2020 | 1616 | 0.52 | 0.263 |" in text


@pytest.mark.parametrize("wrong", [{"bytes": -1}, {"bytes": "many"}, {"bytes": None}, [], 3])
def test_a_damaged_storage_is_refused(wrong: object, tmp_path: Path) -> None:
    full = dict.fromkeys(
        ("numbers", "bytes", "label_bytes", "bits_per_class", "ipc_pixels", "ipc_bytes",
         "whitening_bytes"), 1
    )  # fmt: skip
    storage = full | wrong if isinstance(wrong, dict) else wrong
    with pytest.raises(InputError, match="damaged"):
        read_run(write_run(tmp_path / "a", storage=storage))


def test_a_later_evaluation_of_the_same_state_is_used(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    write_evaluation(run, "a.json", convnet=0.9, outer_steps=39)
    write_evaluation(run, "b.json", convnet=0.7)
    (row,) = compare(read_runs([run])[0], {})
    assert row["distilled"].mean == 0.7
    assert row["backbone"] == "convnet, 3 nets"
    assert row["random"] is None


def test_the_runs_own_backbone_comes_before_others(tmp_path: Path) -> None:
    run, unjudged = write_run(tmp_path / "a"), write_run(tmp_path / "b", None)
    for path in (run, unjudged):
        write_evaluation(path, "timm.json", timm=0.9)
    records, _ = read_runs([run, unjudged])
    judges = [row["backbone"] for row in compare(records, {})]
    assert judges == ["convnet 16, 2 nets", "timm, 3 nets"]
    write_evaluation(run, "both.json", convnet=0.6, timm=0.8)
    (row,) = compare(read_runs([run])[0], {})
    assert (row["backbone"], row["distilled"].mean) == ("convnet, 3 nets", 0.6)


def test_the_order_of_evaluations_is_that_of_the_record_and_survives_copying(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "a")
    write_evaluation(run, "z.json", convnet=0.6)
    write_evaluation(run, "a.json", convnet=0.7)
    for name, time in (("a.json", 1), ("z.json", 2)):
        os.utime(run / "evaluation" / name, (time, time))
    (record,) = read_runs([run])[0]
    assert [each.results["distilled"].mean for each in record.judgements] == [0.5, 0.6, 0.7]
    write_evaluation(run, "z.json", convnet=0.8)
    assert read_runs([run])[0][0].verdict.results["distilled"].mean == 0.8


def test_notes_of_a_judgement_say_what_they_are_of(tmp_path: Path) -> None:
    full = {**result(0.9), "notes": ["from the cache"]}
    run = write_run(tmp_path / "a", results={"distilled": result(0.5), "full": full})
    (record,) = read_runs([run])[0]
    assert record.verdict.notes == ("full: from the cache",)


def test_broken_and_unfinished_runs_are_named_and_the_rest_shown(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good")
    unfinished = write_run(tmp_path / "unfinished", None)
    (tmp_path / "none").mkdir()
    cut = write_run(tmp_path / "cut")
    (cut / "manifest.json").write_text('{"budget": {')
    odd = write_run(tmp_path / "odd", budget={"ipc": "many", "pixels": 1, "label_numbers": 1})
    nan = write_run(tmp_path / "nan", seconds=float("nan"))
    typed = write_run(tmp_path / "typed", commands=["distill run"])
    bad = [unfinished, tmp_path / "none", cut, odd, nan, typed]
    records, failures = read_runs([good, *bad])
    assert [record.name for record in records] == ["good"]
    assert all(str(path) in line for path, line in zip(bad, failures, strict=True))
    assert not any("\n" in line for line in failures)
    with pytest.raises(InputError, match="no run can be used"):
        read_runs(bad)
    with pytest.raises(InputError, match="not judged yet") as caught:
        read_run(unfinished)
    assert f"`distill evaluate {unfinished}`" in caught.value.next
    with pytest.raises(InputError, match="is damaged") as caught:
        read_run(odd)
    assert "restore it from a copy" in caught.value.next


def test_order_and_unknown_columns(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, mean) for name, mean in (("a", 0.1), ("b", 0.3))]
    records, _ = read_runs(runs)
    assert [row["run"] for row in compare(records, {})] == ["a", "b"]
    assert [row["run"] for row in compare(records, {}, sort="distilled")] == ["b", "a"]
    with pytest.raises(UnknownNameError, match="distilld"):
        compare(records, {}, sort="distilld")


def test_the_papers_figure_of_the_same_combination(tmp_path: Path) -> None:
    records, _ = read_runs([write_run(tmp_path / "a")])
    same = Preset("p", "", {**CONFIG, "dataset": "digits"}, "49 % (paper)")
    other = Preset("q", "", {**CONFIG, "dataset": "cifar10"}, "12 % (paper)")
    assert compare(records, {"q": other, "p": same})[0]["reported"] == "49 % (paper)"
    assert compare(records, {"q": other})[0]["reported"] is None


def test_runs_with_other_images_of_one_dataset_are_told_apart(tmp_path: Path) -> None:
    contents = {"a": "1", "b": "2", "c": "1", "old": None, "odd": [3]}
    runs = [str(write_run(tmp_path / n, dataset_content=v)) for n, v in contents.items()]
    line = "dataset 'digits' has other images in some runs: a, c | b;"
    for words in (["compare"], ["report", "--out", str(tmp_path / "page.html")]):
        shown = distill(*words, *runs)
        assert line in shown.stderr
        assert "images" not in distill(*words, runs[0], *runs[2:]).stderr
    assert line.replace("'", "&#x27;") in several(read_runs(map(Path, runs))[0], {})


def test_a_run_whose_settings_were_edited_is_named(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        manifest = json.loads((run / "manifest.json").read_text())
        found = hashlib.sha256((run / "run.toml").read_bytes()).hexdigest()
        (run / "manifest.json").write_text(json.dumps({**manifest, "files": {"run.toml": found}}))
    (runs[1] / "run.toml").write_text((runs[1] / "run.toml").read_text() + "\nseed = 7\n")
    shown = distill("compare", *map(str, runs))
    assert "b: run.toml was edited after the result was saved" in shown.stderr
    assert "a: run.toml" not in shown.stderr


def test_own_data_have_the_name_of_their_folder_in_every_table(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, dataset_content=name) for name in ("a", "b")]
    for run, data in zip(runs, ("birds", "cats.zip"), strict=True):
        words = (run / "run.toml").read_text().replace('"digits"', '"imagefolder"')
        (run / "run.toml").write_text(f'{words}\n[options.dataset]\npath = "/me/{data}"\n')
    shown = distill("compare", *map(str, runs))
    assert "| birds |" in shown.stdout
    assert "| cats |" in shown.stdout
    assert "/me" not in shown.stdout
    assert "has other images" not in shown.stderr


def test_the_command(tmp_path: Path) -> None:
    run, broken = write_run(tmp_path / "a|b"), tmp_path / "gone"
    shown = distill("compare", str(run), str(broken))
    assert shown.exit_code == 0
    assert "| a\\|b |" in shown.stdout
    assert str(broken) in shown.stderr
    (row,) = json.loads(distill("compare", "--json", str(run)).stdout)
    assert row["distilled"] == {"mean": 0.5, "std": 0.01, "nets": 2}
    refused = distill("compare", str(broken))
    assert refused.exit_code == 2
    assert "Traceback" not in refused.stderr
