"""Colours: only on a terminal, and not where NO_COLOR is set. A pseudo-terminal is watched."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.distill_core.cli.fakes import ROOT, process

pty = pytest.importorskip("pty")
COLOUR = re.compile(r"\x1b\[(?:3[0-7]|38;|4[0-7]|48;|9[0-7])[0-9;]*m")
PROGRESS = (
    "from rich.console import Console; from distill_core.run.progress import ConsoleProgress\n"
    "with ConsoleProgress(Console(highlight=False), steps=3, step=1, minutes=None): pass"
)
LIST = "from distill_core.cli import main; main(['list', 'orderer'])"


def on_terminal(code: str, **environment: str) -> str:
    """Run Python with a terminal as stdout and stderr; return what it shows."""
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    env = {**plain, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environment}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    ):
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux says so at the end
                break
            if not part:
                break
            shown += part
    os.close(ours)
    return shown.decode()


def test_colours_are_shown_on_a_terminal_unless_they_are_not_wanted() -> None:
    assert COLOUR.search(on_terminal(PROGRESS))
    assert not COLOUR.search(on_terminal(PROGRESS, NO_COLOR="1"))


def test_tables_are_drawn_on_a_terminal_and_plain_elsewhere() -> None:
    drawn = on_terminal(LIST, NO_COLOR="1")
    assert "\u2500\u2500" in drawn
    assert not COLOUR.search(drawn)
    assert "\x1b" not in process("-c", LIST).stdout
    assert "\x1b" not in process("-c", PROGRESS).stdout
