from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import pytest

from distill_core.artefact.contents import CONFIG
from distill_core.artefact.last_set import current
from distill_core.config.discovery import discover
from distill_core.config.run_config import resolve
from distill_core.config.settings import read_settings
from distill_core.run.directory import (
    begin,
    check_files,
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


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/birds.zip", "birds"), ("My birds (1)", "My_birds_1_"), ("鳥" * 80, "鳥" * 40)],
)
def test_the_name_says_whose_data_they_are(path, name):
    parts = {"repr": "images", "labeler": "onehot", "orderer": "identity", "algo": "dm"}
    own = parts | {"dataset": "imagefolder", "options": {"dataset": {"path": path}}}
    made = default_directory(resolve(own, discover()))
    assert made == Path(f"runs/{name}-images-onehot-identity-dm-seed0")


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


def test_overwriting_is_not_advised_where_it_would_be_refused(tmp_path):
    (tmp_path / "poster.png").write_text("precious")
    with pytest.raises(InputError, match="exists already") as caught:
        check_new(tmp_path, overwrite=False)
    assert caught.value.next == "pass --out DIR for another place."
    with pytest.raises(InputError, match="will not be deleted"):
        check_new(tmp_path, overwrite=True)


def test_what_is_there_is_kept_unless_asked(tmp_path):
    begin(tmp_path, small_config(), overwrite=False)
    (tmp_path / "poster.png").write_text("precious")
    with pytest.raises(InputError, match="exists already") as caught:
        begin(tmp_path, small_config(), overwrite=False)
    assert "--resume" in caught.value.next
    assert (tmp_path / "poster.png").exists()
    begin(tmp_path, small_config(seed=4), overwrite=True)
    assert not (tmp_path / "poster.png").exists()
    assert read_settings(tmp_path / CONFIG)["seed"] == 4


def test_overwriting_that_is_killed_half_way_leaves_a_state_to_go_on_from(tmp_path, monkeypatch):
    """Never a result without its state, which could neither go on nor begin again."""
    begin(tmp_path, small_config(), overwrite=False)
    (tmp_path / "checkpoint").mkdir()
    for name in ("checkpoint/state.safetensors", "stored.safetensors", "manifest.json"):
        (tmp_path / name).write_text("precious")
    gone = []
    unlink = Path.unlink

    def told(path, *args, **kwargs):
        gone.append(path.name)
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(Path, "unlink", told)
    begin(tmp_path, small_config(seed=4), overwrite=True)
    ours = [name for name in gone if not name.endswith(".part")]
    assert ours[-2:] == ["state.safetensors", CONFIG]
    assert {"stored.safetensors", "manifest.json"} <= set(ours)


def test_the_way_to_go_on_can_be_pasted_into_a_shell(tmp_path):
    run_dir = tmp_path / "it's my run"
    begin(run_dir, small_config(), overwrite=False)
    with pytest.raises(InputError) as caught:
        check_new(run_dir, overwrite=False)
    words = shlex.split(caught.value.next.split("`")[1])
    assert words == ["distill", "run", "--resume", "--out", str(run_dir)]


def test_overwriting_removes_all_that_a_run_wrote_and_leaves_what_desktops_do(tmp_path):
    begin(tmp_path, small_config(), overwrite=False)
    ours = (
        *("metrics.jsonl", "manifest.json", "report.html", "events.out.tfevents.1.host.2.0"),
        *(".poster.png.0a1b2c3d.part", "checkpoint/.state.safetensors.0a1b2c3d.part"),
        *("checkpoint/previous.safetensors", "snapshots/step_0000001.png"),
        "evaluation/convnet-recipe-0a1b2c3d.json",
    )
    for name in (*ours, ".lock", ".DS_Store", "snapshots/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    begin(tmp_path, small_config(), overwrite=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {CONFIG, ".lock", ".DS_Store", "snapshots", "snapshots/.DS_Store"}


STRANGERS = {
    "notes.md": lambda path: path.write_text("x"),
    "src/": lambda path: path.mkdir(),
    "checkpoint/thesis.tex": lambda path: path.write_text("x"),
    "snapshots/more/": lambda path: path.mkdir(),
    "snapshots/step_mine.png": lambda path: path.write_text("x"),
    "evaluation/my_notes.json": lambda path: path.write_text("x"),
    "events.out.tfevents.mine": lambda path: path.write_text("x"),
    "report.html": lambda path: path.symlink_to("/etc/passwd"),
    "checkpoint": lambda path: path.symlink_to(path.parent.parent),
    "distilled.safetensors/": lambda path: path.mkdir(),
    ".notes.md.0a1b2c3d.part": lambda path: path.write_text("x"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_directory_with_other_files_is_not_overwritten(name, tmp_path):
    run_dir = tmp_path / "run"
    begin(run_dir, small_config(), overwrite=False)
    (run_dir / "poster.png").write_text("x")
    path = run_dir / name.rstrip("/")
    path.parent.mkdir(exist_ok=True)
    STRANGERS[name](path)
    before = sorted(run_dir.rglob("*"))
    with pytest.raises(InputError, match="holds what no run wrote") as caught:
        begin(run_dir, small_config(), overwrite=True)
    assert f"{name!r}. Nothing is deleted" in caught.value.what
    assert sorted(run_dir.rglob("*")) == before


def test_a_configuration_of_the_users_own_makes_no_run_directory(tmp_path):
    (tmp_path / CONFIG).write_text('algo = "dm"\n')
    (tmp_path / "report.html").write_text("my own")
    with pytest.raises(InputError, match="is not a run directory"):
        begin(tmp_path, small_config(), overwrite=True)
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", ".lock", "checkpoint", "snapshots/step_1.png"])
def test_links_are_refused_before_anything_is_written(name, tmp_path):
    run_dir = tmp_path / "run"
    begin(run_dir, small_config(), overwrite=False)
    (run_dir / "notes").symlink_to(tmp_path)  # the user's own
    check_files(run_dir)
    (run_dir / name).parent.mkdir(exist_ok=True)
    (run_dir / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link to"):
        check_files(run_dir)


def test_a_run_directory_may_itself_be_a_link(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to("scratch")
    begin(tmp_path / "run", small_config(), overwrite=False)
    begin(tmp_path / "run", small_config(seed=4), overwrite=True)
    assert settings_of(tmp_path / "run")["seed"] == 4


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


def test_a_result_without_its_run_is_named_as_such(tmp_path):
    """Of the gallery or the Hub, or the folder that one of these is in."""
    (tmp_path / "distilled.safetensors").touch()
    for place in (tmp_path, Path("gallery:digits-poster-0.9")):
        with pytest.raises(InputError, match="is a result without its run") as caught:
            settings_of(place)
        assert f'load("{place}").train(network)' in caught.value.next


def test_a_newer_configuration_is_refused(tmp_path):
    begin(tmp_path, small_config(), overwrite=False)
    path = tmp_path / CONFIG
    path.write_text(path.read_text().replace("format = 1", "format = 2"))
    with pytest.raises(InputError, match="has format 2") as caught:
        settings_of(tmp_path)
    assert "format 1" in caught.value.expected
