"""A run directory of format 1, kept as it was written: later versions must read it."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

import distill_core
from distill_core.artefact.artefact import file_sha256
from distill_core.artefact.last_set import keep
from distill_core.system.files import write_atomically
from tests.caches import make_cache
from tests.distill_core.cli.small_args import distill
from tests.distill_core.commands.test_verify import FIXTURE
from tests.distill_core.commands.test_verify_decoded import DECODED


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL_CACHE", str(make_cache(tmp_path / "cache")))


def test_the_table_and_the_exit_code():
    result = distill("verify", str(FIXTURE))
    assert result.exit_code == 0, result.output
    assert "294 pixels, 36 label numbers" in result.output


def test_json_and_a_changed_file(tmp_path):
    copy = shutil.copytree(FIXTURE, tmp_path / "run")
    (copy / "poster.png").write_bytes(b"x")
    result = distill("verify", str(copy), "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert not found["verified"]
    assert [check["name"] for check in found["checks"] if not check["passed"]] == ["poster.png"]


def test_an_old_run_loads_evaluates_and_goes_on(tmp_path):
    copy = shutil.copytree(FIXTURE, tmp_path / "run")
    loaded = distill_core.load(copy)
    assert loaded.images.shape == (10, 3, 8, 8)
    assert loaded.verified
    result = distill("verify", str(copy), "--evaluate")
    assert result.exit_code == 0, result.output
    assert "recorded" in result.output
    result = distill("run", "--resume", "--out", str(copy), "--steps", "3")
    assert result.exit_code == 0, result.output
    assert "step 3/3" in result.output
    assert distill("verify", str(copy)).exit_code == 0


def test_a_result_is_judged_by_its_own_settings_after_the_run_was_resumed_with_others(
    tmp_path, monkeypatch
):
    run = shutil.copytree(FIXTURE, tmp_path / "run")
    keep(run)  # as a run does that is resumed so, until it has another result
    settings = (run / "run.toml").read_text()
    assert 'protocol = "recipe"' in settings
    others = settings.replace('protocol = "recipe"', 'protocol = "mtt"')
    write_atomically(run / "run.toml", others.encode())  # beside the link to the old one
    recorded = json.loads((run / "manifest.json").read_text())["results"]["distilled"]
    asked = []

    def judge(candidate, evaluator, options):
        asked.append(options.protocol)
        return {"distilled": SimpleNamespace(accuracies=tuple(recorded["accuracies"]))}

    monkeypatch.setattr("distill_core.evaluation.judge.judge", judge)
    result = distill("verify", str(run), "--evaluate")
    assert result.exit_code == 0, result.output
    assert asked == ["recipe"]


@pytest.fixture
def without(tmp_path):
    """A run of an earlier version, images beside its numbers, of components that are not here."""

    def made(component, option):
        run = shutil.copytree(DECODED, tmp_path / option)
        settings = (run / "run.toml").read_text()
        (run / "run.toml").write_text(
            settings.replace(f'{option} = "{component}"', f'{option} = "bees"')
        )
        record = json.loads((run / "manifest.json").read_text())
        record["components"][option] |= {
            "name": "bees",
            "distribution": "distill-bees",
            "version": "2.1",
        }
        record["files"]["run.toml"] = file_sha256(run / "run.toml")
        (run / "manifest.json").write_text(json.dumps(record))
        return run

    return made


def test_images_beside_numbers_are_evaluated_without_the_plugin_that_made_them(without):
    result = distill("verify", str(without("gsdd", "repr")), "--evaluate", "--json")
    assert result.exit_code == 0, result.output
    found = {check["name"]: check["found"] for check in json.loads(result.stdout)["checks"]}
    assert found["decoding"] == "not compared, since no representation named 'bees' is installed"
    assert "recorded" in found["evaluation"]


def test_a_missing_package_of_the_data_is_named(without):
    result = distill("verify", str(without("shapes", "dataset")), "--evaluate")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "no dataset named 'bees'."
    assert "Next: install distill-bees 2.1, which the run used: pip install" in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a card")
def test_a_run_of_a_card_is_evaluated_without_one(tmp_path):
    run = shutil.copytree(DECODED, tmp_path / "run")
    settings = (run / "run.toml").read_text()
    (run / "run.toml").write_text(settings.replace('device = "auto"', 'device = "cuda:3"'))
    record = json.loads((run / "manifest.json").read_text())
    record["files"]["run.toml"] = file_sha256(run / "run.toml")
    (run / "manifest.json").write_text(json.dumps(record))
    result = distill("verify", str(run), "--evaluate")
    assert result.exit_code == 0, result.output


def test_no_run(tmp_path):
    result = distill("verify", str(tmp_path))
    assert result.exit_code == 2
    assert "manifest.json does not exist" in result.stderr.splitlines()[0]


def test_an_entry_of_the_gallery_is_verified_by_its_name():
    result = distill("verify", "gallery:digits-poster-0.9", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["run"] == "gallery:digits-poster-0.9"
    assert {"distilled.safetensors", "budget", "labels"} <= {
        each["name"] for each in found["checks"]
    }
    wrong = distill("verify", "gallery:digits")
    assert wrong.exit_code == 2
    assert "no gallery entry named 'digits'" in wrong.stderr
