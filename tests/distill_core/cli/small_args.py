"""The small run of `tests/distill_core/small_run.py` as command-line arguments."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from distill_core.cli import main
from tests.distill_core.small_run import SMALL


def arguments(out: Path, *more: str) -> list[str]:
    """Return `run ... --out OUT` with further arguments."""
    args = ["run", "--out", str(out)]
    for name in ("repr", "labeler", "orderer", "algo", "dataset", "ipc", "steps"):
        args += [f"--{name}", str(SMALL[name])]
    for kind, options in SMALL["options"].items():
        for name, value in options.items():
            args += ["-o", f"{kind}.{name}={value}"]
    for name, value in SMALL["evaluate"].items():
        args += ["-o", f"evaluate.{name}={value}"]
    return [*args, *more]


def distill(*args: str) -> Result:
    """Run a command line in this process."""
    return CliRunner().invoke(main, list(args))
