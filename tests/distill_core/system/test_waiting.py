from __future__ import annotations

import threading

import pytest

from distill_core.system.waiting import told_if_slow


def test_slow_work_is_told_again_and_quick_work_never() -> None:
    lines: list[str] = []
    told = threading.Semaphore(0)

    def tell(line: str) -> None:
        lines.append(line)
        told.release()

    with told_if_slow(tell, "quick", seconds=60):
        pass
    with told_if_slow(tell, "slow", seconds=0.01):
        for _ in range(3):
            assert told.acquire(timeout=10)
    assert all(line.startswith("slow (") for line in lines)


def test_words_come_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = [0.0], []

    class Passing(threading.Event):
        """Time passes as it is waited for, until four words were said."""

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waits.append(timeout)
            now[0] += timeout
            return len(waits) > 4

    lines: list[str] = []
    monkeypatch.setattr("distill_core.system.waiting.Event", Passing)
    monkeypatch.setattr("distill_core.system.waiting.monotonic", lambda: now[0])
    with told_if_slow(lines.append, "slow", seconds=15.0):
        pass
    assert waits == [15, 15, 30, 60, 120]
    assert [line.split("(")[1] for line in lines] == [
        "15 s so far)",
        "30 s so far)",
        "1 min 00 s so far)",
        "2 min 00 s so far)",
    ]


def test_errors_pass_and_end_the_waiting() -> None:
    lines: list[str] = []
    with pytest.raises(ValueError, match="no"), told_if_slow(lines.append, "late", seconds=0.05):
        raise ValueError("no")
    threading.Event().wait(0.1)
    assert lines == []
