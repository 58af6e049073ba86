"""Pages about real small runs: their structure, their numbers, and a browser."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from distill_core.artefact.contents import RUN
from distill_core.artefact.pictures import sheet_size
from distill_core.commands.run import run
from distill_core.report import timelapse
from distill_core.report.curves import BANDS, about, learning_series
from distill_core.report.page import report_of, write_report
from distill_core.report.poster import script_json
from distill_core.report.record import RunRecord, read_run
from distill_core.report.svg import Series, chart
from distill_core.report.timelapse import animate
from distill_core.run.checkpoint import load_checkpoint
from distill_core.run.observers import snapshots_of
from registry import InputError
from tests.distill_core.cli.fakes import distill
from tests.distill_core.report.browser import Page
from tests.distill_core.small_run import installed, small_config

EVIL = "<img src=x onerror=alert(1)></script>"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "small<b>"
    run(small_config(snapshots=3), installed(), path, resume=False, overwrite=False)
    return path


def test_the_run_writes_its_page_with_its_numbers(finished: Path) -> None:
    page = Page((finished / "report.html").read_text())
    result = json.loads((finished / "manifest.json").read_text())["results"]["distilled"]
    assert f"{100 * result['mean']:.1f} +- {100 * result['std']:.1f}" in page.text
    data = json.loads(next(text for text in page.text if text.startswith('{"corners"')))
    assert len(data["items"]) == len(data["labels"]) == 10
    assert all(label == sorted(label, key=lambda e: -e[1]) for label in data["labels"])
    sources = [attrs["src"] for _, attrs in page.tags if attrs.get("src")]
    assert sources
    assert all(source and source.startswith("data:") for source in sources)
    assert not any(tag == "link" or "href" in attrs for tag, attrs in page.tags)
    assert "b" not in [tag for tag, _ in page.tags]  # the name of the directory is text


def test_what_matters_comes_first_and_the_command_last(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    titles = re.findall("<h2>(.+?)</h2>", text)
    assert titles[:3] == ["Distilled images", "Accuracy on the test set", "Size"]
    assert titles[-2:] == ["Settings", "Command"]
    assert titles.index("Learning curves") < titles.index("Soft labels") < titles.index("Networks")
    manifest = json.loads((finished / "manifest.json").read_text())
    assert f"<strong>{manifest['storage']['bytes']:,} bytes</strong>" in text
    assert text.count('class="figure first"') == 1


def test_the_heat_map_names_images_and_classes(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    down, across = re.findall('<div class="(?:down|across)".*?>(<span.+?)</div>', text)
    assert re.findall(">([^<]+)</span>", down)[0] == "0"
    assert re.findall(">([^<]+)</span>", down)[-1] == "9"
    data = json.loads(re.findall(r'id="data">(.+?)</script>', text)[0])
    assert re.findall(">([^<]+)</span>", across) == data["classes"]


def test_a_page_has_accuracy_by_class_and_notes_on_the_data(finished: Path, tmp_path: Path) -> None:
    path = shutil.copytree(finished, tmp_path / "run")
    manifest = json.loads((path / "manifest.json").read_text())
    rows = manifest["results"]["distilled"]["by_class"]
    balanced = statistics.fmean(row["accuracy"] for row in rows)
    assert manifest["results"]["distilled"]["balanced"] == pytest.approx(balanced)
    rows[0] |= {"class": EVIL, "images": 0, "accuracy": None}
    manifest["data_notes"] = [f"no test images of: {EVIL}"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    write_report([read_run(path)], {}, path / "report.html")
    page = Page((path / "report.html").read_text())
    assert f"data: no test images of: {EVIL}" in page.text
    balanced = statistics.fmean(row["accuracy"] for row in rows[1:])
    assert f"{100 * balanced:.1f}" in page.text
    rows[0]["accuracy"] = "high"
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="damaged"):
        read_run(path)
    for result in manifest["results"].values():
        del result["by_class"], result["balanced"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert read_run(path).by_class == {}


def test_texts_cannot_become_markup() -> None:
    text = script_json({"classes": [EVIL]})
    assert "<" not in text
    assert json.loads(text) == {"classes": [EVIL]}
    svg = Page(chart([Series(EVIL, [(0, 1, 0), (1, 2, 0)])], x=EVIL, y=EVIL))
    assert {tag for tag, _ in svg.tags} <= {"svg", "path", "text", "polygon", "polyline"} | {
        *("ul", "li", "i")
    }


def test_a_failing_report_costs_nothing(tmp_path: Path) -> None:
    assert "not written" in report_of(tmp_path, {})


def test_several_runs(finished: Path, tmp_path: Path) -> None:
    record = read_run(finished)
    write_report([record, record], {}, tmp_path / "both.html")
    page = Page((tmp_path / "both.html").read_text())
    assert page.text.count("small<b>") >= 4  # two rows and two pictures
    assert sum(attrs.get("class") == "thumb" for _, attrs in page.tags) == 2


def test_snapshots_become_a_time_lapse(finished: Path, tmp_path: Path) -> None:
    names = [path.name for path in snapshots_of(finished)]
    assert names == ["step_0000000.png", "step_0000002.png", "step_0000004.png"]
    with Image.open(animate(finished)) as picture:
        assert picture.n_frames == 3
    with pytest.raises(InputError, match="no snapshots"):
        animate(tmp_path)


def test_everything_that_was_written_is_on_the_list(finished: Path) -> None:
    """`--overwrite` removes what the list names: run, report, time-lapse."""
    animate(finished)
    assert RUN.strangers(finished) == []
    assert {path.name for path in RUN.written(finished)} >= {
        "poster.gif",
        "report.html",
        "snapshots",
    }


def test_a_page_without_its_picture_says_so(finished: Path, tmp_path: Path) -> None:
    path = shutil.copytree(finished, tmp_path / "run")
    (path / "poster.png").unlink()
    with pytest.raises(InputError, match=r"poster\.png, the picture of the result, is missing"):
        write_report([read_run(path)], {}, tmp_path / "page.html")


@pytest.mark.parametrize("name", ["poster.png", "poster.gif", "metrics.jsonl", "evaluation"])
def test_a_page_shows_nothing_that_lies_elsewhere(
    name: str, finished: Path, tmp_path: Path
) -> None:
    run_dir, secret = tmp_path / "run", tmp_path / "secret"
    shutil.copytree(finished, run_dir)
    secret.mkdir() if name == "evaluation" else secret.write_text("a stranger's file")
    (run_dir / name).unlink(missing_ok=True)
    (run_dir / name).symlink_to(secret)
    with pytest.raises(InputError, match=f"{name} is a link to"):
        write_report([read_run(run_dir)], {}, tmp_path / "page.html")


def test_a_small_canvas_is_not_enlarged_beyond_measure() -> None:
    """A page needs the places of canvases, not the picture, which would take 8 GB here."""
    (height, width), corners, factor = sheet_size((1, 10**7, 1), 512)
    assert (height, width, factor) == (512 * 10**7, 512, 512)
    assert corners == [(0, 0)]


def test_snapshots_of_too_many_pixels_are_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "snapshots", tmp_path / "snapshots")
    monkeypatch.setattr(timelapse, "MOST_PIXELS", 100_000)
    with pytest.raises(InputError, match="pixels when enlarged"):
        animate(tmp_path)
    assert not (tmp_path / "poster.gif").exists()


def test_a_resumed_run_keeps_earlier_snapshots(tmp_path: Path) -> None:
    short = small_config(snapshots=3, steps=2)
    run(short, installed(), tmp_path, resume=False, overwrite=False)
    assert load_checkpoint(tmp_path, short)["step"] == 2
    longer = small_config(snapshots=5, steps=4)
    run(longer, installed(), tmp_path, resume=True, overwrite=False)
    steps = [int(path.stem[5:]) for path in snapshots_of(tmp_path)]
    assert steps == [0, 1, 2, 3, 4]


def test_the_page_has_the_commands_that_were_typed(finished: Path, tmp_path: Path) -> None:
    first, second = ("distill", "run", "--out", "a b"), ("distill", "run", "--resume")
    short, longer = small_config(steps=1), small_config(steps=2)
    run(short, installed(), tmp_path, resume=False, overwrite=False, command=first)
    run(longer, installed(), tmp_path, resume=True, overwrite=False, command=second)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["commands"] == [[*first], [*second]]
    texts = Page((tmp_path / "report.html").read_text()).text
    assert {"distill run --out 'a b'", "distill run --resume"} <= set(texts)
    assert json.loads((finished / "manifest.json").read_text())["commands"] == []


def hparams_of(run_dir: Path) -> dict[str, Any]:
    events = EventAccumulator(str(run_dir))
    events.Reload()
    blob = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = HParamsPluginData.FromString(blob).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


def test_tensorboard_compares_runs_by_the_same_settings(finished: Path, tmp_path: Path) -> None:
    changes = {"repr": {"patches": "1x5"}, "algo": {"window": 3}}
    other = small_config(steps=2, seed=1, options=changes)
    run(other, installed(), tmp_path, resume=False, overwrite=False)
    one, two = hparams_of(finished), hparams_of(tmp_path)
    assert set(one) == set(two)
    assert {name for name in one if one[name] != two[name]} == {
        *("seed", "steps", "repr.patches", "algo.window")
    }


def test_tensorboard_has_pictures_and_settings(finished: Path) -> None:
    events = EventAccumulator(str(finished))
    events.Reload()
    assert {"poster", "labels", "patches"} <= set(events.Tags()["images"])
    result = json.loads((finished / "manifest.json").read_text())["results"]["distilled"]
    assert events.Scalars("distilled")[0].value == pytest.approx(result["mean"])
    blob = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"algo.window" in blob
    assert b"backbone" in blob


def test_runs_without_snapshots_are_named_and_the_others_animated(
    finished: Path, tmp_path: Path
) -> None:
    still = tmp_path / "still"
    shutil.copytree(finished, still, ignore=shutil.ignore_patterns("snapshots", "poster.gif"))
    out = tmp_path / "page.html"
    shown = distill("report", str(still), str(finished), "--animate", "--out", str(out))
    assert shown.exit_code == 0
    assert shown.stdout.split() == [str(finished / "poster.gif"), str(out)]
    assert f"no time-lapse: {still} has no snapshots." in shown.stderr
    alone = distill("report", str(still), "--animate")
    assert alone.exit_code == 2
    assert not (still / "poster.gif").exists()


def test_the_spread_of_validation_is_drawn() -> None:
    lines = [{"kind": "validation", "step": k, "accuracy": 0.5} for k in (1, 2)]
    lines[0]["accuracies"] = [0.4, 0.6]
    record = RunRecord(Path("run"), {}, {}, ())
    record.__dict__["metrics"] = lines
    (validation,) = learning_series([record])
    deviation = 100 * statistics.stdev([0.4, 0.6])
    assert validation.points == [(1, 50.0, pytest.approx(deviation)), (2, 50.0, 0.0)]


def test_curves_are_told_apart_and_bands_named_only_where_there_are_any() -> None:
    plain = Series("real batch", [(1, 50, 0), (2, 60, 0)])
    banded = Series("a run: validation", [(1, 50, 2), (2, 60, 0)])
    assert about([plain]) == (
        "Real batch is of the network that a step trains, tried on the training images that the "
        "step drew."
    )
    assert about([plain, banded]).startswith("Validation is of fresh networks")
    assert about([plain, banded]).endswith(f"the step drew. {BANDS}")
    assert "polygon" not in chart([plain], x="", y="")
    assert "polygon" in chart([banded], x="", y="")
