"""Recognise that memory ran out, and report it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

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
# Of what counts more bytes, or things, than any machine can.
UNCOUNTABLE = (
    "storage size calculation overflowed",
    "overflow when unpacking long",
    "array is too big",
    "maximum allowed dimension exceeded",
    "invalid size, tensor size is too large",
)
# PyTorch's text goes on about settings of its allocator, which help against fragments only.
FACTS = re.compile(r"CUDA out of memory\..*? of which [^.]*(?:\.\d+)?[^.]* is free\.")


KEPT_SMALLER = "free memory, or keep real images in half of it with -o data.storage=float16."


class OutOfMemory(EnvironmentFault):
    """The machine or the device has no more memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, on the device or on the CPU.

    PyTorch tells only by the text; its own class for CUDA has "out of memory" in it too. CUDA's
    libraries allocate memory themselves, and name their own status if that fails.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    if isinstance(error, (RuntimeError, TypeError, ValueError)):
        parts = (*ALLOCATORS, *UNCOUNTABLE) if isinstance(error, RuntimeError) else UNCOUNTABLE
        return any(part in text for part in parts)
    return isinstance(error, MemoryError)


@contextmanager
def memory_for(what: str, *, next: str) -> Iterator[None]:
    """Say what needed the memory, if it runs out inside this context, and what lowers that.

    Raises:
        OutOfMemory: it ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, expected=f"room for {what}.", next=next) from error


def out_of_memory(error: BaseException, *, expected: str = "", next: str = "") -> OutOfMemory:
    """Return the error to report; by default it is about memory used outside of outer steps."""
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
