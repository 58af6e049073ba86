"""A run directory of format 1, kept as it was written: later versions must read it."""

from __future__ import annotations

import json
import shutil

import pytest

import distill_core
from tests.caches import make_cache
from tests.distill_core.cli.small_args import distill
from tests.distill_core.commands.test_verify import FIXTURE


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


def test_no_run(tmp_path):
    result = distill("verify", str(tmp_path))
    assert result.exit_code == 2
    assert "manifest.json does not exist" in result.stderr.splitlines()[0]
