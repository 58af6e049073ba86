"""Pages about real small runs: their structure, their numbers, and a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill_core.checkpoint import load_checkpoint
from distill_core.report.page import report_of, write_report
from distill_core.report.poster import script_json
from distill_core.report.svg import Series, chart
from distill_core.report.timelapse import animate
from distill_core.run_record import read_run
from distill_core.session import run
from distill_core.snapshots import snapshots_of
from registry import InputError
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


def test_a_resumed_run_keeps_earlier_snapshots(tmp_path: Path) -> None:
    short = small_config(snapshots=3, steps=2)
    run(short, installed(), tmp_path, resume=False, overwrite=False)
    assert load_checkpoint(tmp_path, short)["step"] == 2
    longer = small_config(snapshots=5, steps=4)
    run(longer, installed(), tmp_path, resume=True, overwrite=False)
    steps = [int(path.stem[5:]) for path in snapshots_of(tmp_path)]
    assert steps == [0, 1, 2, 3, 4]


def test_tensorboard_has_pictures_and_settings(finished: Path) -> None:
    events = EventAccumulator(str(finished))
    events.Reload()
    assert {"poster", "labels", "patches"} <= set(events.Tags()["images"])
    result = json.loads((finished / "manifest.json").read_text())["results"]["distilled"]
    assert events.Scalars("distilled")[0].value == pytest.approx(result["mean"])
    blob = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"algo.window" in blob
    assert b"backbone" in blob
