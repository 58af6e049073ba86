"""No warning of any dependency reaches the user, even one who asks Python for all of them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.distill_core.cli.fakes import process
from tests.distill_core.cli.small_args import arguments

CODE = """
import json, sys, warnings
from distill_core.cli import main
for line in json.loads(sys.argv[1]):
    try:
        main(line)
    except SystemExit as left:
        print("ended", line[0], left.code or 0)
    {more}
"""


def commands(run: Path) -> list[list[str]]:
    """The commands that load something heavy, the heaviest dependencies among them."""
    more = ["--snapshots", "2", "-o", "evaluate.nets=1"]
    formats = ("images", "tensors", "huggingface", "dd-ranking")
    return [
        arguments(run, *more),
        ["evaluate", str(run), "--nets", "1"],
        *(["export", str(run), "--format", form] for form in formats),
        ["report", str(run), "--animate"],
        ["compare", str(run), str(run)],
        ["verify", str(run)],
        ["list"],
        ["show", "orderer", "poco"],
        ["doctor"],
    ]


def said(lines: list[list[str]], more: str = "") -> tuple[list[str], str]:
    """Run commands one after the other in one process; return how they ended, and stderr."""
    code = CODE.format(more=more)
    done = process("-W", "default", "-c", code, json.dumps(lines), OMP_NUM_THREADS="1")
    ends = [line for line in done.stdout.splitlines() if line.startswith("ended ")]
    return ends, done.stderr


def warned(stderr: str) -> list[str]:
    """Lines that are warnings, of Python or of PyTorch's C++ (`[W123 file.cpp:1]`)."""
    return [line for line in stderr.splitlines() if "Warning" in line or line.startswith("[W")]


def test_no_command_warns(tmp_path: Path) -> None:
    lines = commands(tmp_path / "run")
    ends, stderr = said(lines)
    assert ends == [f"ended {line[0]} 0" for line in lines], stderr
    assert warned(stderr) == []


def test_the_check_can_fail() -> None:
    ends, stderr = said([["list"]], "warnings.warn('soon gone', DeprecationWarning)")
    assert ends == ["ended list 0"]
    assert len(warned(stderr)) == 1
