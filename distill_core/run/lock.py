"""The lock of a run directory: two runs never share one.

The operating system releases the lock (flock) when the process ends, so a killed process leaves
nothing to clear away. Two things are locked: the directory itself, which cannot be taken from under
a run by removing a file, and the file `.lock`, whose text names the owner, and which earlier
versions lock alone. Some file systems, as NFS, lock no directory; `.lock` is compared at each save.
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
from distill_core.system.files import parse_json
from distill_core.system.flock import HELD, flock
from distill_core.system.plain_files import CAREFUL, open_to_write
from registry import EnvironmentFault, InputError

PATIENCE = 0.3  # seconds; who asks whether a lock is held has it for a moment


@contextlib.contextmanager
def lock_run_dir(
    run_dir: Path, tell: Callable[[str], None] = lambda line: None
) -> Iterator[Callable[[], None]]:
    """Lock a run directory for this process, and make it if it does not exist.

    Args:
        run_dir: the directory.
        tell: called when an earlier owner ended without releasing its lock.

    Yields:
        A function to call before each save. It raises if the directory is not the same any more,
        or belongs to another run.

    Raises:
        InputError: another run holds it; its process, host and start are named.
        EnvironmentFault: the directory cannot be written, or its file system has no locks.
    """
    held = _Held(run_dir)
    try:
        held.take()
        owner = _text(held.path)
        if owner:
            tell(f"the lock of {run_dir} is stale: its owner, {owner}, ended without releasing it")
        held.claim()
        try:
            yield held.check
        finally:
            with contextlib.suppress(OSError):  # then it is stale, and says so to the next run
                os.ftruncate(held.file, 0)
    finally:
        held.close()


def owner_of(run_dir: Path) -> str:
    """Return who holds the lock of a run directory, as text; empty if nobody does."""
    for place, flags in ((run_dir, os.O_RDONLY), (run_dir / LOCK, os.O_RDONLY | CAREFUL)):
        with contextlib.suppress(OSError):
            descriptor = os.open(place, flags)
            try:
                flock(descriptor, shared=True)
            except OSError as error:
                if error.errno in HELD:
                    return _text(run_dir / LOCK) or "a run that just began"
            finally:
                os.close(descriptor)
    return ""


class _Held:
    """The two locks of a run directory; -1 for one that is not held."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir, self.path = run_dir, run_dir / LOCK
        self.folder = self.file = -1

    def take(self) -> None:
        """Take both locks."""
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self.folder = os.open(self.run_dir, os.O_RDONLY)
        except OSError as error:
            raise _fault(self.path, error) from error
        try:
            flock(self.folder, patience=PATIENCE)
        except OSError as error:
            # NFS locks no directory, since it cannot be open for writing.
            if error.errno in HELD and error.errno != errno.EACCES:
                raise _in_use(self.run_dir) from None
        self.file = self._locked_file()

    def check(self) -> None:
        """Refuse to save if the directory is another one, or was taken over by another run.

        Raises:
            FileNotFoundError: the directory has vanished.
            EnvironmentFault: it is another one now.
            InputError: `.lock` was removed, and another run has locked a new one.
        """
        if not _same(self.folder, self.run_dir.stat()):
            raise EnvironmentFault(
                f"{self.run_dir} was replaced by another directory during the run.",
                expected="the directory in which the run began; nothing more is written.",
                next="put it back.",
            )
        try:
            ours = _same(self.file, self.path.lstat())
        except FileNotFoundError:
            ours = False
        if not ours:
            file = self._locked_file()
            os.close(self.file)
            self.file = file
            self.claim()

    def claim(self) -> None:
        """Write who holds the lock."""
        try:
            os.ftruncate(self.file, 0)
            os.pwrite(self.file, _claim().encode(), 0)
        except OSError as error:
            raise _fault(self.path, error) from error

    def close(self) -> None:
        """Give both back."""
        for descriptor in (self.file, self.folder):
            if descriptor >= 0:
                os.close(descriptor)

    def _locked_file(self) -> int:
        """Open and lock `.lock`, and be sure that it still has its name then."""
        while True:
            descriptor = _open(self.path)
            try:
                flock(descriptor, patience=PATIENCE)
                if _same(descriptor, self.path.lstat()):
                    return descriptor
            except FileNotFoundError:
                pass
            except OSError as error:
                os.close(descriptor)
                if isinstance(error, EnvironmentFault):
                    raise
                if error.errno in HELD:
                    raise _in_use(self.run_dir) from None
                raise _fault(self.path, error) from error
            os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return open_to_write(path)
    except OSError as error:
        raise _fault(path, error) from error


def _same(descriptor: int, found: os.stat_result) -> bool:
    own = os.fstat(descriptor)
    return (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)


def _claim() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since})


def _text(path: Path) -> str:
    """Return who wrote the file, as text; empty if nobody did."""
    try:
        descriptor = os.open(path, os.O_RDONLY | CAREFUL)
        try:
            owner = parse_json(os.read(descriptor, 1000))
        finally:
            os.close(descriptor)
        text = f"process {owner['process']} on {owner['host']} since {owner['since']}"
        return text if text.isprintable() else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _in_use(run_dir: Path) -> InputError:
    return InputError(
        f"{run_dir} is in use by another run: {_text(run_dir / LOCK) or 'one that just began'}.",
        expected="one run at a time in a directory.",
        next="wait for it, end it with Ctrl-C or `kill -INT PROCESS` (it saves its state), or "
        "pass --out DIR.",
    )


def _fault(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} cannot be locked: {error.strerror or error}.",
        expected="a directory that can be written, on a file system with locks.",
        next="give permission, make room, or pass --out DIR for another place.",
    )
