"""The command that goes on with a run, as messages offer it."""

from __future__ import annotations

import shlex
from pathlib import Path


def resume_command(run_dir: Path) -> str:
    """Return the command, which can be pasted into a shell whatever the directory is called.

    >>> resume_command(Path("my runs/one"))
    "distill run --resume --out 'my runs/one'"
    """
    return shlex.join(["distill", "run", "--resume", "--out", str(run_dir)])
