"""Folders that appear whole under their name, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from distill_core.system.files import cannot_write, flush_folder, part_of
from registry import EnvironmentFault

_HERE = -2 if sys.platform == "darwin" else -100  # AT_FDCWD: paths are as they are
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


@contextlib.contextmanager
def whole_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a new folder to fill, which takes the name `target` at the end if all went well.

    A process that is killed leaves a hidden folder beside `target`, which the next call removes.

    Args:
        target: free, or an empty folder; a link to a folder stays one.
        replace: also replace a folder that is not empty. On Linux and macOS the two change names in
            one step. Some file systems (NFS) cannot; if the process is killed between two steps
            there, the next call gives the old folder its name back.

    Raises:
        EnvironmentFault: it cannot be written, or, without `replace`, was filled meanwhile.
    """
    target = target.resolve()
    part = part_of(target)
    try:
        _clear(target)
        part.mkdir(parents=True)
        with _in_use(part) as descriptor:
            yield part
            if not os.path.samestat(os.fstat(descriptor), part.stat()):
                raise FileNotFoundError("somebody removed it meanwhile")
            _take_name(part, target, replace=replace)
    except OSError as error:
        if isinstance(error, EnvironmentFault):
            raise
        raise cannot_write(target, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders change names in one step; return whether the system could."""
    name = "renameatx_np" if sys.platform == "darwin" else "renameat2"
    try:
        call = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return False
    return bool(call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _take_name(part: Path, target: Path, *, replace: bool) -> None:
    """Rename a folder; one that had the name is removed, or has the other name then."""
    flush_folder(part)
    try:
        part.rename(target)  # replaces a folder that is empty
    except OSError:
        if not replace or not target.is_dir():
            raise
        if not exchange(part, target):
            target.rename(_old(target))
            part.rename(target)
            shutil.rmtree(_old(target), ignore_errors=True)
    flush_folder(target.parent)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _clear(target: Path) -> None:
    """Undo what a killed process has left: an old folder gets its name back, parts are removed."""
    if (old := _old(target)).is_dir():
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)
    for part in target.parent.glob(f".{glob.escape(target.name)}.????????.part"):
        with contextlib.suppress(OSError), _in_use(part):  # or else somebody fills it now
            shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def _in_use(folder: Path) -> Iterator[int]:
    """Lock a folder, so that nobody takes it for one that a killed process has left.

    Raises:
        OSError: somebody else has locked it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        import fcntl  # as in `run/lock.py`, not on Windows

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)
