"""The run directory: its files, and when it may be created, resumed or overwritten."""

from __future__ import annotations

import shutil
from pathlib import Path

from distill_core.artefact import kept
from distill_core.config.run_config import RunConfig, to_toml
from distill_core.config.settings import FORMAT, read_settings
from distill_core.run.lock import LOCK
from distill_core.system.files import is_part, write_atomically
from registry import InputError

CONFIG = kept.CONFIG
METRICS = "metrics.jsonl"


def default_directory(config: RunConfig) -> Path:
    """Return runs/NAME, where NAME lists the components."""
    budget = f"{config.ipc:g}ipc-" if config.ipc is not None else ""
    parts = (config.dataset, config.repr, config.labeler, config.orderer, config.algo)
    return Path("runs") / f"{'-'.join(parts)}-{budget}seed{config.seed}"


def check_new(run_dir: Path, *, overwrite: bool) -> None:
    """Refuse to start a run in a directory that is in use; nothing is changed yet.

    Raises:
        InputError: the directory is in use, or `--overwrite` would delete files of another kind.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(
            f"{run_dir} is a file.", expected="a directory or a free name.", next="pass --out DIR."
        )
    # A run that was killed before it wrote its configuration has left no more than these.
    if not run_dir.exists() or all(
        path.name == LOCK or is_part(path) for path in run_dir.iterdir()
    ):
        return
    is_run = (run_dir / CONFIG).exists()
    if not overwrite:
        going_on = f"`distill run --resume --out {run_dir}` to go on, " if is_run else ""
        raise InputError(
            f"{run_dir} exists already and is not empty.",
            expected="a new directory, so that no result is lost.",
            next=f"{going_on}--overwrite to delete it, or --out DIR for another place.",
        )
    if not is_run:
        raise InputError(
            f"{run_dir} is not a run directory (it has no {CONFIG}); it will not be deleted.",
            expected="a directory that `distill run` made.",
            next="pass --out DIR for another place.",
        )


def begin(run_dir: Path, config: RunConfig, *, overwrite: bool) -> None:
    """Make the directory and write the configuration; `overwrite` deletes an earlier run."""
    check_new(run_dir, overwrite=overwrite)
    if overwrite and run_dir.exists():
        _empty(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_config(run_dir, config)


def write_config(run_dir: Path, config: RunConfig) -> None:
    """Write the configuration of a run, with the version of its format, unless it is the same."""
    data, path = f"format = {FORMAT}\n{to_toml(config)}".encode(), run_dir / CONFIG
    if not path.exists() or path.read_bytes() != data:
        kept.keep(run_dir)  # the result that is there was made with the other one
        write_atomically(path, data)


def _empty(run_dir: Path) -> None:
    """Delete everything except for the lock; run.toml goes last, in case of a crash."""
    for path in sorted(run_dir.iterdir(), key=lambda path: path.name == CONFIG):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def settings_of(run_dir: Path) -> dict[str, object]:
    """Read the configuration of an existing run.

    Raises:
        InputError: the directory is not a run directory.
    """
    if not (run_dir / CONFIG).exists():
        raise InputError(
            f"{run_dir} is not a run directory (it has no {CONFIG}).",
            expected="a directory that `distill run` made.",
            next="check the path; `ls runs` shows the runs made here.",
        )
    return read_settings(run_dir / CONFIG)
