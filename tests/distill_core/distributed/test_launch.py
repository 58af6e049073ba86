"""What is decided before processes are started; `cli/test_processes.py` starts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_core.distributed.launch import (
    EXIT_CODE_FILE,
    check_processes,
    launched,
    leave_exit_code,
    threads_of_each,
    usable,
)
from registry import OptionError


def test_only_more_than_one_process_is_a_launch() -> None:
    assert launched({"WORLD_SIZE": "2"})
    assert not any(launched({"WORLD_SIZE": size}) for size in ("", "0", "1"))
    assert not launched({})


def test_every_process_needs_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="cannot be shared by 2 processes"):
        check_processes(2, "cuda:0")
    check_processes(64, "cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    check_processes(2, "auto")
    check_processes(64, "cpu")
    with pytest.raises(OptionError) as caught:
        check_processes(3, "auto")
    assert str(caught.value) == (
        "--procs 3 needs 3 CUDA devices, and 2 can be seen.\n"
        "Expected at most 2, since each process takes a CUDA device of its own.\n"
        "Next: pass --procs 2, or --device cpu."
    )


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_core.distributed.launch.count_cores", lambda: 8)
    assert [threads_of_each(procs) for procs in (1, 3, 8, 20)] == [8, 2, 1, 1]


def test_an_exit_code_is_left_where_the_parent_looks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(EXIT_CODE_FILE, raising=False)
    leave_exit_code(2)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(EXIT_CODE_FILE, str(tmp_path / "code"))
    leave_exit_code(2)
    assert (tmp_path / "code").read_text() == "2"


@pytest.mark.parametrize(
    ("procs", "device", "cuda", "expected"),
    [(2, "auto", False, 2), (2, "auto", True, 1), (2, "cpu", True, 2), (9, "cpu", False, 1)],
)
def test_a_configuration_asks_for_no_more_than_the_machine_has(
    procs: int, device: str, cuda: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_core.distributed.launch.count_cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    assert usable(procs, device) == expected
