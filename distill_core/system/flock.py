"""Locks on open files that the operating system releases when the process ends."""

from __future__ import annotations

import errno
import time

from registry import EnvironmentFault

HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # what a lock of another process raises


def flock(descriptor: int, *, shared: bool = False, patience: float = 0.0) -> None:
    """Lock a file or folder that is open.

    Args:
        descriptor: of the file or folder.
        shared: others may have a shared lock, too.
        patience: seconds to wait for another process.

    Raises:
        OSError: it is held by another process, or cannot be locked.
        EnvironmentFault: this system has no such locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        raise EnvironmentFault(
            "files cannot be locked: this system has no flock.",
            expected="Linux, macOS or another Unix; runs are not made on Windows.",
            next="use the Windows Subsystem for Linux.",
        ) from None
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in HELD or time.monotonic() >= until:
                raise
        time.sleep(0.02)
