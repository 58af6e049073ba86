"""Processes that measure: one for each part, with limits of time, followed line by line."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

CHILD = Path(__file__).with_name("gpu_child.py")
Start = Callable[[list[str]], "Child"]


class Ending(NamedTuple):
    """How a part ended: whether nothing is missing, and what is to be said."""

    done: bool
    said: str = ""


class Child:
    """A process that is told what to do and answers in lines of JSON.

    Args:
        asked: what to do.
        environment: its environment variables.
        log: file that takes what it prints.
    """

    def __init__(self, asked: Mapping[str, Any], environment: Mapping[str, str], log: Path) -> None:
        with log.open("a", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(CHILD)],
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # so that what it starts ends with it
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()

    def line(self, seconds: float) -> dict[str, Any] | None:
        """Return the next line, or None at the end.

        Raises:
            TimeoutError: there is none for so many seconds.
        """
        try:
            text = self._lines.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            raise TimeoutError from None
        return None if text is None else dict(json.loads(text))

    def status(self) -> int:
        """Wait for the end."""
        return self._process.wait()

    def kill(self) -> None:
        """End it, with all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self._lines.put(text)
        self._lines.put(None)


def follow(
    start: Start,
    add: Callable[[str, Mapping[str, Any]], None],
    *,
    kept: list[str],
    until: float,
    each: float,
    say: Callable[[str], None] = lambda line: None,
) -> Ending:
    """Let processes measure the cells of a part until all are there, or the time is over.

    A process that dies, or that gives nothing for too long, loses the cell at hand and no other: a
    new one goes on behind it.

    Args:
        start: starts a process, given the cells that it is to leave out.
        add: takes the figures of a cell.
        kept: cells that are there already.
        until: when the part must have ended, by `time.monotonic`.
        each: seconds that a single cell may take.
        say: is told of every cell.
    """
    known = list(kept)
    while True:
        child, current, before = start(known), "", len(known)
        try:
            while True:
                line = child.line(min(until - time.monotonic(), each))
                if line is None:
                    status = child.status()
                    break
                if "end" in line:
                    return Ending(True)
                if "begin" in line:
                    current = line["begin"]
                    continue
                found = line.get("found") or {"failed": line["failed"]}
                known.append(line["cell"])
                add(line["cell"], found)
                say(f"  {line['cell']}: {_short(found)}")
                current = ""
        except TimeoutError:
            if time.monotonic() >= until:
                return Ending(False, "its time was over; what was measured is kept")
            add(current or "start", {"failed": f"gave nothing for {each:.0f} s"})
            if not current:
                return Ending(False, "its process did not begin")
            known.append(current)
            continue
        finally:
            child.kill()
        if current:
            add(current, {"failed": f"its process ended with status {status}"})
            known.append(current)
        if len(known) == before:
            return Ending(False, f"its process ended with status {status}; see gpu.log")


def _short(found: Mapping[str, Any]) -> str:
    if "failed" in found:
        return str(found["failed"])
    numbers = [(name, value) for name, value in found.items() if isinstance(value, (int, float))]
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers[:4])
