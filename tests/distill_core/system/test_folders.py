"""Folders that appear whole: what is there after a failure, a kill, and beside another writer."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from distill_core.system import folders
from distill_core.system.folders import exchange, whole_folder
from registry import EnvironmentFault


def fill(target: Path, text: str, *, replace: bool = False) -> None:
    with whole_folder(target, replace=replace) as folder:
        (folder / "file").write_text(text)


def killed(target: Path, text: str) -> None:
    """Fill a folder in a process that is killed before the end."""
    if not (pid := os.fork()):
        with whole_folder(target, replace=True) as folder:
            (folder / "file").write_text(text)
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_an_earlier_folder_is_there_until_the_new_one_is(tmp_path: Path) -> None:
    target = tmp_path / "out"
    fill(target, "1")
    with pytest.raises(KeyError), whole_folder(target, replace=True):
        raise KeyError
    assert os.listdir(tmp_path) == ["out"]
    killed(target, "2")
    assert (target / "file").read_text() == "1"
    assert len(os.listdir(tmp_path)) == 2
    fill(target, "3", replace=True)
    assert (target / "file").read_text() == "3"
    assert os.listdir(tmp_path) == ["out"]


def test_a_kill_before_the_first_leaves_a_free_name(tmp_path: Path) -> None:
    killed(tmp_path / "out", "1")
    assert not (tmp_path / "out").exists()
    fill(tmp_path / "out", "2")
    assert os.listdir(tmp_path) == ["out"]


def test_what_was_put_there_meanwhile_stays(tmp_path: Path) -> None:
    target = tmp_path / "out"
    filled = whole_folder(target)
    filled.__enter__()
    target.mkdir()
    (target / "precious").touch()
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        filled.__exit__(None, None, None)
    assert os.listdir(target) == ["precious"]
    with pytest.raises(EnvironmentFault), whole_folder(tmp_path / "out" / "precious", replace=True):
        pass
    assert (target / "precious").is_file()


def test_an_empty_folder_and_a_link_are_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    fill(tmp_path / "link", "1")
    fill(tmp_path / "link", "2", replace=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out" / "file").read_text() == "2"
    assert sorted(os.listdir(tmp_path)) == ["link", "out"]


def test_another_writer_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with whole_folder(target, replace=True) as folder:
        (folder / "file").write_text("1")
        fill(target, "2")
        assert (target / "file").read_text() == "2"
        assert (folder / "file").exists()
    assert (target / "file").read_text() == "1"


def test_a_folder_that_somebody_cleared_away_is_not_taken_for_whole(tmp_path: Path) -> None:
    filled = whole_folder(tmp_path / "out")
    folder = filled.__enter__()
    folder.rename(tmp_path / "away")
    folder.mkdir()  # by a writer that makes the folders above its file
    with pytest.raises(EnvironmentFault):
        filled.__exit__(None, None, None)
    assert os.listdir(tmp_path) == ["away"]


def test_a_file_system_that_cannot_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    fill(target, "1")
    monkeypatch.setattr(folders, "exchange", lambda one, other: False)
    fill(target, "2", replace=True)
    assert (target / "file").read_text() == "2"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_swap_that_is_killed_is_undone_or_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    target, rename, steps = tmp_path / "out", Path.rename, iter(range(9))
    fill(target, "1")

    def kill(path: Path, new: Path) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(path, new)

    monkeypatch.setattr(folders, "exchange", lambda one, other: False)
    if not (pid := os.fork()):
        monkeypatch.setattr(Path, "rename", kill)
        with contextlib.suppress(BaseException):
            fill(target, "2", replace=True)
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    with whole_folder(target, replace=True):
        assert (target / "file").read_text() == ("1" if step < 4 else "2")
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(target) == []


def test_a_swap_that_fails_is_undone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "out", Path.rename
    fill(target, "1")

    def refuse(path: Path, new: Path) -> None:
        if new == target and path.suffix == ".part":
            raise PermissionError
        rename(path, new)

    monkeypatch.setattr(folders, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        fill(target, "2", replace=True)
    assert (target / "file").read_text() == "1"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    "name", [".out.old", ".out.holidays.part", ".out.0123abcd.aside", ".out.0123abcd.old"]
)
def test_a_hidden_folder_of_the_user_beside_it_stays(
    tmp_path: Path, name: str, exists: bool
) -> None:
    (tmp_path / name / "old").mkdir(parents=True)
    (tmp_path / name / "thesis").write_text("precious")
    if exists:
        fill(tmp_path / "out", "1")
    fill(tmp_path / "out", "2", replace=True)
    assert (tmp_path / name / "thesis").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == sorted([name, "out"])


def test_a_file_system_that_locks_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.EBADF, "as NFS says")

    killed(tmp_path / "out", "1")
    monkeypatch.setattr("fcntl.flock", refuse)
    fill(tmp_path / "out", "2")
    assert os.listdir(tmp_path) == ["out"]
    filled = whole_folder(tmp_path / "out", replace=True)
    filled.__enter__()
    fill(tmp_path / "out", "3", replace=True)  # cannot know that somebody fills it
    with pytest.raises(EnvironmentFault):
        filled.__exit__(None, None, None)
    assert (tmp_path / "out" / "file").read_text() == "3"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2 is Linux's")
def test_two_folders_change_names(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path / "a") == ["b"]
    assert not exchange(tmp_path / "a", tmp_path / "missing")
