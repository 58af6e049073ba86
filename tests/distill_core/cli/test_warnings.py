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
warnings.warn("planted", DeprecationWarning)
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


def warned(stderr: str) -> list[str]:
    """Lines that are warnings, of Python or of PyTorch's C++ (`[W123 file.cpp:1]`)."""
    return [line for line in stderr.splitlines() if "Warning" in line or line.startswith("[W")]


def test_no_command_warns(tmp_path: Path) -> None:
    """One warning is planted at the end, so that the check can fail."""
    lines = commands(tmp_path / "run")
    done = process("-W", "default", "-c", CODE, json.dumps(lines), OMP_NUM_THREADS="1")
    ends = [line for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert ends == [f"ended {line[0]} 0" for line in lines], done.stderr
    (planted,) = warned(done.stderr)
    assert planted.endswith("DeprecationWarning: planted")
