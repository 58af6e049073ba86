"""Memory that has run out: how it is recognised, and which options lower what a run takes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from registry import EnvironmentFault

if TYPE_CHECKING:
    from distill_core.assemble import Assembly

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


def how_to_lower(assembly: Assembly) -> str:
    """Say which options lower the memory of an outer step, and to what."""
    engine, algo = assembly.engine, assembly.config.options["algo"]
    items = len(assembly.synthetic)
    inner = min(algo.get("batch") or items, items)
    real = min(algo.get("real_batch") or engine.real_chunk, engine.real_chunk)
    at_once = min(engine.microbatch or inner, inner)
    ways: dict[str, int | str] = {}
    if engine.activation_cache:
        ways["engine.activation_cache"] = "none"
    ways["engine.real_chunk"] = min(real, len(assembly.real.train)) // 2
    if engine.splits:
        ways["engine.microbatch"] = at_once // 2
    elif "batch" in algo:  # not when resuming: it changes what is computed
        ways["algo.batch"] = inner // 2
    found = [f"-o {name}={value}" for name, value in ways.items() if value]
    if not found:
        return "nothing is left to take in parts: choose a smaller -o backbone.width"
    return f"lower it with {' and '.join(found)}, or let --max-memory choose"
