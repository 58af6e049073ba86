"""Child processes that do not outlive their parent, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None


def end_with_parent(parent: int, number: int = signal.SIGTERM) -> None:
    """Let the kernel send this process a signal when its parent ends, even if that is killed.

    For `preexec_fn` of `subprocess.Popen`, or the start of a child. Linux only; elsewhere nothing
    is done, and such a child goes on.

    Args:
        parent: the process id of the parent; this process exits if it has ended already.
        number: the signal.
    """
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + number)
