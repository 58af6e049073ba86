"""The run directory: when it may be created, resumed or overwritten. Its files: `contents.py`."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from distill_core.artefact.contents import CHECKPOINT, CONFIG, LOCK, RUN
from distill_core.artefact.last_set import keep
from distill_core.artefact.places import is_elsewhere
from distill_core.artefact.result_file import has_result
from distill_core.config.data_name import name_in_files
from distill_core.config.resume_command import resume_command
from distill_core.config.run_config import RunConfig, to_toml
from distill_core.config.settings import FORMAT, parse_settings
from distill_core.system.files import is_part, write_atomically
from distill_core.system.listing import named
from distill_core.system.plain_files import check_folder, check_plain, read_plain
from registry import InputError

# A configuration that a user wrote for `--config` has no format.
OURS = re.compile(rb"format = \d+\r?\n")


def default_directory(config: RunConfig) -> Path:
    """Return runs/NAME, where NAME lists what the data are called and the components."""
    budget = f"{config.ipc:g}ipc-" if config.ipc is not None else ""
    if config.budget_bytes is not None:
        budget = f"{config.budget_bytes}bytes-"
    data = name_in_files(config.data_name)
    parts = (data, config.repr, config.labeler, config.orderer, config.algo)
    return Path("runs") / f"{'-'.join(parts)}-{budget}seed{config.seed}"


def check_new(run_dir: Path, *, overwrite: bool) -> None:
    """Refuse to start a run in a directory that is in use; nothing is changed yet.

    Raises:
        InputError: the directory is in use, or `--overwrite` is to delete what is no run, or there
            are files in it that no run wrote, which are named.
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
    is_run = _is_run(run_dir)
    if not overwrite:
        ways = f"`{resume_command(run_dir)}` to go on, --overwrite to delete it, or --out DIR"
        raise InputError(
            f"{run_dir} exists already and is not empty.",
            expected="a new directory, so that no result is lost.",
            next=f"{ways if is_run else 'pass --out DIR'} for another place.",
        )
    if not is_run:
        raise InputError(
            f"{run_dir} is not a run directory (it has no {CONFIG} of a run); it will not be "
            "deleted.",
            expected="a directory that `distill run` made.",
            next="pass --out DIR for another place.",
        )
    if others := RUN.strangers(run_dir):
        raise InputError(
            f"{run_dir} holds what no run wrote: {named(others)}. Nothing is deleted.",
            expected="a directory with files of a run alone, for --overwrite.",
            next="move these elsewhere, or pass --out DIR for another place.",
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
    if not is_of(run_dir, config):
        keep(run_dir)  # the result that is there was made with the other one
        write_atomically(run_dir / CONFIG, _text_of(config))


def is_of(run_dir: Path, config: RunConfig) -> bool:
    """Return whether a directory has exactly this configuration."""
    path = run_dir / CONFIG
    return path.exists() and read_plain(path) == _text_of(config)


def check_files(run_dir: Path) -> None:
    """Refuse a run directory in which a file or folder of a run is a link, a pipe or a device.

    What writes into a directory that is there calls this first, before any work.

    Raises:
        InputError: the first of them is named.
    """
    for path in sorted(run_dir.iterdir()):
        if RUN.inside(path.name) is not None:
            check_folder(path)
            for each in sorted(path.iterdir()):
                check_plain(each)
        elif RUN.has_file(path.name):
            check_plain(path)


def settings_of(run_dir: Path) -> dict[str, object]:
    """Read the configuration of an existing run.

    Raises:
        InputError: the directory is not a run directory.
    """
    path = run_dir / CONFIG
    try:
        return parse_settings(read_plain(path), path)
    except (FileNotFoundError, NotADirectoryError):
        if is_elsewhere(run_dir) or has_result(run_dir):
            raise InputError(
                f"{run_dir} is a result without its run (it has no {CONFIG}).",
                expected="a directory that `distill run` made.",
                next=f'in Python, distill_core.load("{run_dir}").train(network) trains a network '
                "on it.",
            ) from None
        raise InputError(
            f"{run_dir} is not a run directory (it has no {CONFIG}).",
            expected="a directory that `distill run` made.",
            next="check the path; `ls runs` shows the runs made here.",
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}.",
            expected="the file that `distill run` wrote.",
            next="give permission, or restore it from a copy.",
        ) from None


def _text_of(config: RunConfig) -> bytes:
    return f"format = {FORMAT}\n{to_toml(config)}".encode()


def _empty(run_dir: Path) -> None:
    """Delete what a run wrote, except for the lock; in case of a crash, the state that a run can go
    on from goes after its result, and run.toml last."""

    def late(path: Path) -> tuple[bool, bool]:
        return path.name == CONFIG, CHECKPOINT in (path.name, path.parent.name)

    for path in sorted(RUN.written(run_dir), key=late):
        if path.is_dir():
            with contextlib.suppress(OSError):  # what a desktop left in it
                path.rmdir()
        elif path.name != LOCK:
            path.unlink()


def _is_run(run_dir: Path) -> bool:
    try:
        return bool(OURS.match(read_plain(run_dir / CONFIG)))
    except (OSError, InputError):
        return False
