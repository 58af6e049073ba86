from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from distill_core.artefact.kept import current
from distill_core.config.settings import read_settings
from distill_core.run.directory import (
    CONFIG,
    begin,
    check_new,
    default_directory,
    settings_of,
    write_config,
)
from registry import InputError
from tests.distill_core.small_run import small_config


def test_the_name_says_what_was_chosen():
    assert default_directory(small_config()) == Path(
        "runs/shapes-poster-poddl-poco-ratbptt-0.8ipc-seed0"
    )


def test_a_new_directory_holds_the_configuration(tmp_path):
    run_dir = tmp_path / "a" / "b"
    config = small_config()
    begin(run_dir, config, overwrite=False)
    written = tomllib.loads((run_dir / CONFIG).read_text())
    assert written == {"format": 1, **settings_of(run_dir)}
    assert settings_of(run_dir)["options"]["algo"]["window"] == 2


def test_an_empty_directory_is_new(tmp_path):
    check_new(tmp_path, overwrite=False)
    check_new(tmp_path / "missing", overwrite=True)


def test_what_a_run_left_that_was_killed_at_its_start_is_no_obstacle(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.toml.01234567.part").touch()
    begin(tmp_path, small_config(), overwrite=False)


def test_a_result_keeps_the_configuration_that_made_it(tmp_path):
    begin(tmp_path, small_config(), overwrite=False)
    (tmp_path / "manifest.json").write_text('{"format": 1, "files": {}}')
    write_config(tmp_path, small_config())
    assert current(tmp_path) == tmp_path
    write_config(tmp_path, small_config(steps=9))  # resumed, and not saved again yet
    assert settings_of(tmp_path)["steps"] == 9
    assert settings_of(current(tmp_path))["steps"] == 4


def test_what_is_there_is_kept_unless_asked(tmp_path):
    begin(tmp_path, small_config(), overwrite=False)
    (tmp_path / "result").write_text("precious")
    with pytest.raises(InputError, match="exists already") as caught:
        begin(tmp_path, small_config(), overwrite=False)
    assert "--resume" in caught.value.next
    assert (tmp_path / "result").exists()
    begin(tmp_path, small_config(seed=4), overwrite=True)
    assert not (tmp_path / "result").exists()
    assert read_settings(tmp_path / CONFIG)["seed"] == 4


def test_only_runs_are_overwritten(tmp_path):
    (tmp_path / "photo.jpg").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(InputError) as caught:
            check_new(tmp_path, overwrite=overwrite)
        assert "--resume" not in caught.value.next
    assert (tmp_path / "photo.jpg").exists()


def test_a_file_in_the_way(tmp_path):
    path = tmp_path / "run"
    path.write_text("x")
    with pytest.raises(InputError, match="is a file"):
        check_new(path, overwrite=True)


def test_not_a_run(tmp_path):
    with pytest.raises(InputError, match="is not a run directory"):
        settings_of(tmp_path)


def test_a_newer_configuration_is_refused(tmp_path):
    begin(tmp_path, small_config(), overwrite=False)
    path = tmp_path / CONFIG
    path.write_text(path.read_text().replace("format = 1", "format = 2"))
    with pytest.raises(InputError, match="has format 2") as caught:
        settings_of(tmp_path)
    assert "format 1" in caught.value.expected
