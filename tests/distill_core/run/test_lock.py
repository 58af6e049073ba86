from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest

from distill_core.artefact.contents import LOCK
from distill_core.run.lock import lock_run_dir, owner_of
from registry import EnvironmentFault, InputError
from tests.distill_core.cli.small_args import arguments, distill

OWNER = """
import sys, time
from pathlib import Path
from distill_core.run.lock import lock_run_dir
with lock_run_dir(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """Another process, which holds the lock of `tmp_path / "run"`."""
    run_dir = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(run_dir)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield run_dir, process
    process.kill()
    process.communicate()


def test_the_second_is_refused_and_told_whose_it_is(owner):
    run_dir, process = owner
    with (
        pytest.raises(InputError, match="is in use by another run") as caught,
        lock_run_dir(run_dir),
    ):
        raise AssertionError
    assert f"process {process.pid} on " in caught.value.what
    assert " since 20" in caught.value.what


def test_a_lock_with_a_second_name_costs_nobody_a_file(tmp_path):
    (tmp_path / "thesis").write_text("precious")
    os.link(tmp_path / "thesis", tmp_path / LOCK)
    with pytest.raises(InputError, match="hard link"), lock_run_dir(tmp_path):
        raise AssertionError
    assert (tmp_path / "thesis").read_text() == "precious"


def test_the_lock_of_a_killed_process_is_stale(owner):
    run_dir, process = owner
    process.send_signal(signal.SIGKILL)
    process.wait()
    said = []
    with lock_run_dir(run_dir, said.append):
        assert json.loads((run_dir / LOCK).read_text())["process"] == os.getpid()
    assert len(said) == 1
    assert f"process {process.pid} on " in said[0]
    assert "is stale" in said[0]


def test_a_lock_file_that_was_removed_lets_nobody_in(owner):
    run_dir, _ = owner
    (run_dir / LOCK).unlink()
    with pytest.raises(InputError, match="in use by another run"), lock_run_dir(run_dir):
        raise AssertionError


def test_a_version_that_locks_only_the_file_is_kept_out_and_keeps_out(owner, tmp_path):
    run_dir, _ = owner
    with (run_dir / LOCK).open("r+") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (tmp_path / "old").mkdir()
    with (tmp_path / "old" / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(InputError, match="in use"), lock_run_dir(tmp_path / "old"):
            raise AssertionError


def test_a_lock_file_that_was_removed_is_made_again_before_a_save(tmp_path):
    with lock_run_dir(tmp_path) as still_ours:
        still_ours()
        (tmp_path / LOCK).unlink()
        still_ours()
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
        (tmp_path / LOCK).unlink()
        # As on a file system that locks no directories.
        with (tmp_path / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(InputError, match="in use by another run"):
                still_ours()


def test_nothing_is_saved_in_a_directory_that_took_the_place_of_ours(tmp_path):
    with lock_run_dir(tmp_path / "run") as still_ours:
        (tmp_path / "run").rename(tmp_path / "away")
        with pytest.raises(FileNotFoundError):
            still_ours()
        (tmp_path / "run").mkdir()
        with pytest.raises(EnvironmentFault, match="was replaced by another directory"):
            still_ours()


def test_who_holds_a_lock_can_be_asked(owner, tmp_path):
    run_dir, process = owner
    assert owner_of(run_dir).startswith(f"process {process.pid} on ")
    (run_dir / LOCK).unlink()
    assert owner_of(run_dir) == "a run that just began"
    assert owner_of(tmp_path / "missing") == ""
    with lock_run_dir(tmp_path / "other"):
        pass
    assert owner_of(tmp_path / "other") == ""


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_lock_that_is_no_plain_file_is_refused_and_not_followed(tmp_path, kind):
    (tmp_path / "precious").write_text("mine")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    if kind == "link":
        (run_dir / LOCK).symlink_to(tmp_path / "precious")
    else:
        os.mkfifo(run_dir / LOCK)
    with pytest.raises(InputError, match=f"is a {kind}"), lock_run_dir(run_dir):
        raise AssertionError
    assert owner_of(run_dir) == ""
    assert (tmp_path / "precious").read_text() == "mine"


def test_it_is_given_back_after_success_and_failure(tmp_path):
    said = []
    with pytest.raises(KeyError), lock_run_dir(tmp_path, said.append):
        raise KeyError
    with lock_run_dir(tmp_path, said.append):
        pass
    assert said == []
    assert (tmp_path / LOCK).read_bytes() == b""


def test_a_place_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(EnvironmentFault, match="cannot be locked"),
        lock_run_dir(tmp_path / "file" / "run"),
    ):
        raise AssertionError


def test_a_running_run_is_neither_resumed_nor_overwritten(owner):
    run_dir, process = owner
    (run_dir / "run.toml").write_text("format = 1\n")  # what a run writes first
    result = distill(*arguments(run_dir, "--overwrite"))
    assert result.exit_code == 2
    assert f"is in use by another run: process {process.pid} on " in result.stderr
    assert (run_dir / "run.toml").exists()


def test_a_run_that_is_made_by_somebody_else_meanwhile(owner):
    """Both saw a free name; the one who is later with its data is refused."""
    run_dir, process = owner
    result = distill(*arguments(run_dir))
    assert result.exit_code == 2
    assert f"process {process.pid} on " in result.stderr
    assert os.listdir(run_dir) == [LOCK]


@pytest.mark.parametrize(
    "text",
    ["[" * 1000, "3", '{"process": 1, "host": "\\u001b[2J", "since": "x"}', "\x80"],
    ids=["deep", "number", "control characters", "no text"],
)
def test_a_lock_that_a_stranger_wrote_is_taken_over_without_repeating_it(tmp_path, text):
    (tmp_path / LOCK).write_bytes(text.encode("latin-1"))
    said = []
    with lock_run_dir(tmp_path, said.append):
        pass
    assert all(line.isprintable() for line in said)
