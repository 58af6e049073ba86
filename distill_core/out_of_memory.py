"""Memory that has run out: how it is recognised, and said."""

from __future__ import annotations

import errno

from registry import EnvironmentFault

ALLOCATORS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")


class OutOfMemory(EnvironmentFault):
    """The machine or the device has no more memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, on the device or on the CPU.

    PyTorch tells by the text alone; its own class for CUDA has "out of memory" in it, too.
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
    return OutOfMemory(
        f"there is not enough memory: {first.rstrip('.')}.",
        expected=expected or "room for the real images and for the networks trained on them.",
        next=next
        or "free memory, keep real images in half of it with -o data.storage=float16, or train "
        "smaller networks with -o backbone.width; --max-memory bounds outer steps alone.",
    )
