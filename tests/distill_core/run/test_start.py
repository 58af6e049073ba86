"""A start that is refused leaves its directory as it was; one that saved something does not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from distill_core.run.start import Start
from registry import InputError

REFUSED = InputError("no.", expected="yes.", next="look.")


def _write(run_dir: Path, *names: str) -> None:
    for name in names:
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).write_text(name)


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _end(start: Start, error: BaseException, *names: str) -> None:
    """A run that writes these files and ends with an error."""
    with start.undone_if_refused():
        _write(start.run_dir, *names)
        raise error


STARTED = ("run.toml", ".lock", "metrics.jsonl", "snapshots/step_0000000.png")


@pytest.mark.parametrize("error", [REFUSED, RuntimeError("a plugin's"), SystemExit(3)])
def test_a_new_directory_is_removed_with_the_folders_around_it(
    tmp_path: Path, error: BaseException
) -> None:
    start = Start(tmp_path / "a/b/run")
    with pytest.raises(type(error)):
        _end(start, error, *STARTED, "events.out.tfevents.1.host.2")
    assert _names(tmp_path) == []


def test_what_was_there_stays(tmp_path: Path) -> None:
    _write(tmp_path, "run.toml", "snapshots/step_0000001.png", "notes.txt")
    start, before = Start(tmp_path), _names(tmp_path)
    with pytest.raises(InputError):
        _end(start, REFUSED, *STARTED[1:3])
    assert _names(tmp_path) == before


def test_a_stranger_among_the_new_files_stays(tmp_path: Path) -> None:
    start = Start(tmp_path / "run")
    with pytest.raises(InputError):
        _end(start, REFUSED, *STARTED, "notes.txt")
    assert _names(start.run_dir) == ["notes.txt"]


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), MemoryError(),
     RuntimeError("CUDA out of memory")],
)  # fmt: skip
def test_what_can_be_resumed_stays(tmp_path: Path, error: BaseException) -> None:
    start = Start(tmp_path / "run")
    with pytest.raises(type(error)):
        _end(start, error, "run.toml")
    assert _names(start.run_dir) == ["run.toml"]


@pytest.mark.parametrize("saved", ["checkpoint/state.safetensors", "distilled.safetensors"])
@pytest.mark.parametrize("emptied", [True, False])
def test_a_saved_state_stays(tmp_path: Path, saved: str, emptied: bool) -> None:
    run_dir = tmp_path / "run"
    if emptied:
        _write(run_dir, "run.toml", "checkpoint/state.safetensors")
    start = Start(run_dir)
    if emptied:
        start.emptied()
    with pytest.raises(InputError):
        _end(start, REFUSED, "run.toml", saved)
    assert saved in _names(run_dir)


def test_nothing_is_undone_once_a_run_goes_on(tmp_path: Path) -> None:
    _write(tmp_path, "run.toml")
    start = Start(tmp_path)
    start.resumed()
    with pytest.raises(InputError):
        _end(start, REFUSED, "metrics.jsonl")
    assert _names(tmp_path) == ["metrics.jsonl", "run.toml"]
