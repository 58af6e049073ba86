from __future__ import annotations

import threading

import pytest

from distill_core.system.waiting import told_if_slow


def test_slow_work_is_told_once_and_quick_work_never() -> None:
    lines: list[str] = []
    told = threading.Event()

    def tell(line: str) -> None:
        lines.append(line)
        told.set()

    with told_if_slow(tell, "quick", seconds=60):
        pass
    with told_if_slow(tell, "slow", seconds=0.01):
        assert told.wait(10)
    assert lines == ["slow"]


def test_errors_pass_and_end_the_waiting() -> None:
    lines: list[str] = []
    with pytest.raises(ValueError, match="no"), told_if_slow(lines.append, "late", seconds=0.05):
        raise ValueError("no")
    threading.Event().wait(0.1)
    assert lines == []
