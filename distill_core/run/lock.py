"""The lock of a run directory: two runs never share one.

The operating system releases the lock (flock) when the process ends, so a killed process leaves
nothing to clear away. The text in the file only names the owner.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from distill_core.artefact.contents import LOCK
from distill_core.system.door import open_to_write
from distill_core.system.files import parse_json
from registry import EnvironmentFault, InputError

TEXT = 1000  # bytes of the claim that are read


@contextlib.contextmanager
def lock_run_dir(run_dir: Path, tell: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Lock a run directory for this process, and make it if it does not exist.

    Args:
        run_dir: the directory.
        tell: called when an earlier owner ended without releasing its lock.

    Raises:
        InputError: another run holds it; its process, host and start are named. Or its file is
            no plain file.
        EnvironmentFault: the directory cannot be written, or its file system has no locks.
    """
    path = run_dir / LOCK
    descriptor = _open(path)
    try:
        _lock(descriptor, path)
        owner = _text(descriptor)
        if owner:
            tell(f"the lock of {run_dir} is stale: its owner, {owner}, ended without releasing it")
        _write(descriptor, path, _claim())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # then it is stale, and says so to the next run
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open_to_write(path)
    except OSError as error:
        raise _fault(path, error) from error


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        raise EnvironmentFault(
            f"{path} cannot be locked: this system has no flock.",
            expected="Linux, macOS or another Unix; runs are not made on Windows.",
            next="use the Windows Subsystem for Linux.",
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise _fault(path, error) from error
        owner = _text(descriptor) or "one that just began"
        raise InputError(
            f"{path.parent} is in use by another run: {owner}.",
            expected="one run at a time in a directory.",
            next="wait for it, end it with Ctrl-C or `kill -INT PROCESS` (it saves its state), or "
            "pass --out DIR.",
        ) from None


def _write(descriptor: int, path: Path, text: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    except OSError as error:
        raise _fault(path, error) from error


def _claim() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since})


def _text(descriptor: int) -> str:
    """Return who wrote the file, as text; empty if nobody did."""
    try:
        owner = parse_json(os.pread(descriptor, TEXT, 0))
        text = f"process {owner['process']} on {owner['host']} since {owner['since']}"
        return text if text.isprintable() else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _fault(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} cannot be locked: {error.strerror or error}.",
        expected="a directory that can be written, on a file system with locks.",
        next="give permission, make room, or pass --out DIR for another place.",
    )
