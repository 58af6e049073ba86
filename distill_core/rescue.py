"""When a run cannot go on: what is saved, and what to do now.

The state before the outer step that failed is still there unless the update had begun; it is
saved, so that resuming repeats the step exactly. Where even that fails the last checkpoint stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from distill_core.distributed import RankLostError
from distill_core.groups import DivergenceError, HypergradientError
from distill_core.hypergradient.engine import Engine
from distill_core.run import OuterLoop
from registry import EnvironmentFault, ExplainedError

ALLOCATORS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")


class OutOfMemory(EnvironmentFault):
    """The machine or the device has no more memory."""


@contextmanager
def rescued(loop: OuterLoop) -> Iterator[None]:
    """Save what there is when the run fails, and say where it is and how to go on.

    Raises:
        ExplainedError: of the kind of the error, with the way to go on as its next step.
    """
    try:
        yield
    except Exception as error:
        found = explained(error, loop.assembly.engine)
        if found is None or (isinstance(error, HypergradientError) and loop.step == 0):
            raise
        together = isinstance(error, DivergenceError)
        step = None
        vanished = isinstance(error, FileNotFoundError) and not loop.run_dir.exists()
        with suppress(EnvironmentFault, RankLostError):  # the disk that is full is still full
            # A directory that has vanished, perhaps with its disk, is not begun anew elsewhere.
            step = None if vanished else loop.rescue(together=together)
        saved = loop.saved_step if step is None else step
        state = (
            "there is no saved state yet"
            if saved is None
            else (f"the state is saved at outer step {saved}")
        )
        then = _next(found, state, loop)
        found.next = f"{found.next} {then[0].upper()}{then[1:]}" if found.next else then
        raise found from error


def explained(error: Exception, engine: Engine) -> ExplainedError | None:
    """Say what failed, if it is the machine, another process or the numbers; None if not."""
    if is_out_of_memory(error):
        return OutOfMemory(
            f"there is not enough memory: {str(error).splitlines()[0] if str(error) else 'none'}.",
            expected=f"room for an outer step with {engine.images()}.",
            next=f"{less(engine)}.",
        )
    if isinstance(error, RankLostError):
        return RankLostError(error.what, expected=error.expected)
    if isinstance(error, (EnvironmentFault, DivergenceError)):
        return error
    if isinstance(error, OSError):
        return EnvironmentFault(
            f"the system refused something: {error}.",
            expected="a run directory that is there and can be written, with room.",
            next="mend that first.",
        )
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, on the device or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        text in str(error).lower() for text in ALLOCATORS
    )


def less(engine: Engine) -> str:
    """Say which options lower the memory of an outer step, and to what.

    >>> less(Engine(real_chunk=250, microbatch=None))
    'lower it with -o engine.real_chunk=125 and -o engine.microbatch=50, or let --max-memory choose'
    """
    microbatch = 50 if engine.microbatch is None else max(engine.microbatch // 2, 1)
    chunk = max(engine.real_chunk // 2, 1)
    return (
        f"lower it with -o engine.real_chunk={chunk} and -o engine.microbatch={microbatch}, "
        "or let --max-memory choose"
    )


def _next(found: ExplainedError, state: str, loop: OuterLoop) -> str:
    how = f"`distill run --resume --out {loop.run_dir}`"
    if isinstance(found, RankLostError):
        how += ", with any number of processes"
    elif isinstance(found, DivergenceError):
        how += " with --on-divergence halve-lr"
    elif isinstance(found, OutOfMemory):
        how += " with these options"
    return f"{state}; go on with {how}."
