"""Folders that appear whole under their name, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from distill_core.system.files import PART, cannot_write, flush_folder, part_of
from distill_core.system.flock import flock
from registry import EnvironmentFault

_HERE = -2 if sys.platform == "darwin" else -100  # AT_FDCWD: paths are as they are
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
# A folder of ours beside the target holds the old one, and a file that says that it is ours.
_ASIDE = re.compile(r"\.(.+)\.[0-9a-f]{8}\.aside")
_OLD, _MARKER = "old", "made-by-distill"


@contextlib.contextmanager
def whole_folder(
    target: Path, *, replace: bool = False, begun: Path | None = None
) -> Iterator[Path]:
    """Give a new folder to fill, which takes the name `target` at the end if all went well.

    A process that is killed leaves a hidden folder beside `target`, which the next call removes,
    or goes on with if that is `begun`.

    Args:
        target: free, or an empty folder; a link to a folder stays one.
        replace: also replace a folder that is not empty. On Linux and macOS the two change names in
            one step. Some file systems (NFS) cannot; if the process is killed between two steps
            there, the next call gives the old folder its name back.
        begun: a folder beside `target` to fill in place of a new one, which nobody else fills. It
            need not exist, and stays if this process is interrupted, or the machine refuses.

    Raises:
        EnvironmentFault: it cannot be written, or, without `replace`, was filled meanwhile.
    """
    target = target.resolve()
    part = begun or part_of(target)
    stays = False
    try:
        _clear(target)
        part.mkdir(parents=True, exist_ok=begun is not None)
        with _in_use(part) as descriptor:
            yield part
            if not os.path.samestat(os.fstat(descriptor), part.stat()):
                raise FileNotFoundError("somebody removed it meanwhile")
            _take_name(part, target, replace=replace)
    except OSError as error:
        stays = begun is not None
        if isinstance(error, EnvironmentFault):
            raise
        raise cannot_write(target, error) from error
    except (KeyboardInterrupt, SystemExit):
        stays = begun is not None
        raise
    finally:
        if not stays:
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
            _swap(part, target)
    flush_folder(target.parent)


def _swap(part: Path, target: Path) -> None:
    """Put the old folder aside, so that the new one takes its name, in two steps."""
    made = part_of(target)
    aside = made.with_suffix(".aside")
    made.mkdir()
    (made / _MARKER).touch()
    with _in_use(made):
        made.rename(aside)
        try:
            target.rename(aside / _OLD)
            part.rename(target)
        finally:
            _settle(aside, target)


def _settle(aside: Path, target: Path) -> None:
    """Remove the old folder; if the new one does not have the name, the old one gets it back."""
    if not os.path.lexists(target) and (aside / _OLD).is_dir():
        (aside / _OLD).rename(target)
    _remove(aside, target)


def _clear(target: Path) -> None:
    """Undo what a killed process has left: an old folder gets its name back, parts are removed."""
    for path in sorted(target.parent.glob(".*/")):
        aside, part = _ASIDE.fullmatch(path.name), PART.fullmatch(path.name)
        if target.name not in (aside and aside[1], part and part[1]) or path.is_symlink():
            continue
        with contextlib.suppress(OSError), _in_use(path):  # or else somebody fills it now
            if part:
                _remove(path, target)
            elif (path / _MARKER).is_file():
                _settle(path, target)


def _remove(folder: Path, target: Path) -> None:
    """Take the name away before the files: who still uses it finds it gone, not half empty."""
    gone = part_of(target)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextlib.contextmanager
def _in_use(folder: Path) -> Iterator[int]:
    """Lock a folder, so that nobody takes it for one that a killed process has left.

    Some file systems, as NFS, lock no folders; whatever they say, nobody holds it then.

    Raises:
        OSError: somebody else has locked it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            flock(descriptor)
        except OSError as error:
            if isinstance(error, EnvironmentFault) or error.errno == errno.EWOULDBLOCK:
                raise
        yield descriptor
    finally:
        os.close(descriptor)
