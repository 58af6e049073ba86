"""Children that end with their parent."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from distill_core.distributed import group
from distill_core.system.children import end_with_parent
from registry import InputError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")


def test_a_child_ends_when_its_parent_is_killed() -> None:
    reading, writing = os.pipe()
    if not (parent := os.fork()):
        own = os.getpid()
        if not os.fork():
            end_with_parent(own, signal.SIGKILL)
            os.write(writing, b"up")
            signal.pause()
        signal.pause()
    os.close(writing)
    assert os.read(reading, 2) == b"up"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert os.read(reading, 1) == b""  # the child, which had it open, is gone
    os.close(reading)


def test_a_child_that_comes_too_late_exits() -> None:
    if not (child := os.fork()):
        end_with_parent(1 + os.getppid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM


def test_a_rank_ends_with_the_launcher_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    parents: list[int] = []
    monkeypatch.setattr(group, "end_with_parent", parents.append)
    for environment in ({"DISTILL_LAUNCHER": "7"}, {}):
        with pytest.raises(InputError, match="is not set"):
            group.join({"WORLD_SIZE": "2", **environment})
    assert parents == [7]
