"""Runs of earlier versions, kept as files, can be read, judged and gone on with.

- run-v1: the first version of all formats.
- run-averaged-best: with a moving average, the best state by validation, and earlier states to go
  back to in its checkpoint; the options have the names that they have today.
- run-decoded: a decoder, whose decoded images lie beside the numbers.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from distill_core.artefact.artefact import load
from distill_core.artefact.contents import DISTILLED, STORED
from distill_core.artefact.manifest import read_manifest
from distill_core.artefact.result_file import RESULTS
from distill_core.commands import run_end
from distill_core.commands.evaluate import cross_evaluate
from distill_core.commands.run import run
from distill_core.commands.verify import verify
from distill_core.config.run_config import RunConfig, resolve
from distill_core.report.record import read_run
from distill_core.run.directory import settings_of
from distill_core.run.recording import RunLog
from registry import EnvironmentFault
from tests.distill_core.small_run import installed

RUNS = sorted(path for path in (Path(__file__).parents[2] / "fixtures").glob("run-*"))
MORE = 2  # outer steps


@pytest.fixture(params=RUNS, ids=lambda path: path.name)
def run_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return shutil.copytree(request.param, tmp_path / "run")


def config_of(run_dir: Path) -> RunConfig:
    config = resolve(settings_of(run_dir), installed())
    return config.model_copy(update={"device": "cpu"})


def test_all_are_there() -> None:
    assert [path.name for path in RUNS] == ["run-averaged-best", "run-decoded", "run-v1"]


def test_it_loads_and_keeps_its_claims(run_dir: Path) -> None:
    distilled = load(run_dir)
    assert distilled.verified
    assert distilled.path.name == "distilled.safetensors"
    assert distilled.images.isfinite().all()
    assert [check for check in verify(run_dir) if not check.passed] == []


def test_an_option_that_came_later_means_what_it_did_then(run_dir: Path) -> None:
    config = config_of(run_dir)
    expected = "published" if config.repr == "poster" else None
    assert config.written_options()["repr"].get("density") == expected


def test_it_is_judged(run_dir: Path, own_cache: Path) -> None:
    found = cross_evaluate(run_dir, {"convnet": config_of(run_dir)}, installed())
    results = found.results["convnet"]
    assert [name for name in results if name != "random_bytes"] == ["distilled", "random", "full"]
    assert ("random_bytes" in results) == (not load(run_dir).is_pixels)
    assert all(0 <= value <= 1 for value in results["distilled"].accuracies)


def test_a_finished_run_that_is_resumed_and_stopped_keeps_its_results(
    run_dir: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the best state, where the last checkpoint holds the last one."""
    before, result = read_manifest(run_dir), load(run_dir)
    assert before["results"]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_end, "judge", stop)
    with pytest.raises(KeyboardInterrupt):
        run(config_of(run_dir), installed(), run_dir, resume=True, overwrite=False, quiet=True)
    assert read_manifest(run_dir) == before
    assert load(run_dir).images.equal(result.images)
    assert [check for check in verify(run_dir) if not check.passed] == []
    assert read_run(run_dir).verdict.results["distilled"].mean == pytest.approx(
        before["results"]["distilled"]["mean"]
    )


def test_what_fails_after_the_judgement_does_not_lose_it(
    run_dir: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = read_manifest(run_dir)["outer_steps"] + 1
    longer = config_of(run_dir).model_copy(update={"steps": steps})

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(RunLog, "results", fail)
    with pytest.raises(EnvironmentFault, match="the disk is full"):
        run(longer, installed(), run_dir, resume=True, overwrite=False, quiet=True)
    after = read_manifest(run_dir)
    assert after["outer_steps"] == steps
    assert after["results"]["distilled"]["accuracies"]


def test_it_goes_on_to_the_end(run_dir: Path, own_cache: Path) -> None:
    before, config = read_manifest(run_dir), config_of(run_dir)
    steps = before["outer_steps"] + MORE
    longer = config.model_copy(update={"steps": steps})
    run(longer, installed(), run_dir, resume=True, overwrite=False, quiet=True)
    after = read_manifest(run_dir)
    results = sorted(path.name for name in RESULTS for path in run_dir.glob(name))
    assert results == [STORED if config.repr == "gsdd" else DISTILLED]
    assert after["outer_steps"] == steps
    assert after["class_order"] == before["class_order"]
    assert after["dataset_fingerprint"] == before["dataset_fingerprint"]
    assert [check for check in verify(run_dir) if not check.passed] == []
