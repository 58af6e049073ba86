"""Memory that has run out: how it is recognised, and said."""

from __future__ import annotations

import errno
import re

from registry import EnvironmentFault

ALLOCATORS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cusolver_status_alloc_failed",
)
# PyTorch goes on with how its allocator can be set, which helps against fragments alone.
FACTS = re.compile(r"CUDA out of memory\..*? of which [^.]*(?:\.\d+)?[^.]* is free\.")


class OutOfMemory(EnvironmentFault):
    """The machine or the device has no more memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, on the device or on the CPU.

    PyTorch tells by the text alone; its own class for CUDA has "out of memory" in it, too. The
    libraries for CUDA ask for memory themselves, and name a status of theirs when they get none.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(part in text for part in ALLOCATORS)
    )


def out_of_memory(error: BaseException, *, expected: str = "", next: str = "") -> OutOfMemory:
    """Say that memory ran out; where no step did it, what takes memory besides outer steps."""
    first = " ".join((str(error).splitlines() or ["nothing more is known"])[0].split())
    facts = FACTS.match(first)
    first = facts[0] if facts else first
    return OutOfMemory(
        f"there is not enough memory: {first.rstrip('.')}.",
        expected=expected or "room for the real images and for the networks trained on them.",
        next=next
        or "free memory, keep real images in half of it with -o data.storage=float16, or train "
        "smaller networks with -o backbone.width; --max-memory bounds outer steps alone. On a card "
        "others may have the memory: `nvidia-smi` shows who.",
    )
