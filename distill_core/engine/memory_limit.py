"""Staying within a memory limit: choose what the engine retains, and how many images at a time.

Retaining less and taking fewer images cost a little time and change only rounding. So the first
choice, in order of preference, that is predicted to fit is taken. The algorithm predicts its own
memory; what else the process uses is measured (`memory_trial.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from distill_core.contracts.algorithm import Estimate
from distill_core.engine.engine import Engine
from distill_core.system.out_of_memory import OutOfMemory, is_out_of_memory
from distill_core.system.units import parse_size, size_text
from registry import InputError

ACTIVATION_CACHES = (16 * 2**30, 4 * 2**30, 2**30, 2**28, 2**26)
REAL_CHUNKS = (250, 100, 50, 25)
MICROBATCHES = (48, 24, 12, 6, 3, 1)


def stay_within(
    engine: Engine,
    limit: str,
    *,
    in_use: Callable[[], int],
    predict: Callable[[Engine], Estimate | None],
    largest: int | None,
    caches: Sequence[int] = ACTIVATION_CACHES,
) -> Engine:
    """Return the engine that retains as much as fits, with fewer images at a time if necessary.

    Args:
        engine: as it was chosen.
        limit: the memory that may be used in all, for example "4GiB".
        in_use: counts the bytes in use between steps; called after each trial, because the first
            step of a process also loads code, which stays.
        predict: runs a short outer step with an engine, and predicts the cost of a whole one.
        largest: most images of an inner batch; None if batches must not be split, because the
            network mixes their images.
        caches: bytes that may be retained, largest first; 0 is always tried last.

    Raises:
        InputError: no choice fits, or the algorithm cannot predict its memory.
        OutOfMemory: not even a trial fits into the free memory.
    """
    allowed, least, last = parse_size(limit, what="engine.max_memory"), 0, engine
    between = 0
    for candidate in candidates(engine, largest, [size for size in caches if 0 < size < allowed]):
        try:
            estimate = predict(candidate)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            last = candidate  # the trial itself: fewer images may fit
            continue
        if estimate is None:
            raise InputError(
                f"option engine.max_memory = {limit} cannot be kept: the algorithm does not "
                "predict its memory.",
                expected="an algorithm that does, as `distill run --dry-run` shows.",
                next="leave --max-memory out; -o engine.microbatch and -o engine.real_chunk lower "
                "memory by hand.",
            )
        between = in_use()
        needed = between + estimate.memory
        if needed <= allowed:
            kept = f", {size_text(estimate.retained)} of it retained" if estimate.retained else ""
            return replace(candidate, memory=f"{size_text(needed)} predicted of {limit}{kept}")
        if not least or needed < least:
            least, last = needed, candidate
    if not least:
        raise OutOfMemory(
            f"an outer step was tried to stay within engine.max_memory = {limit}, and not even one "
            f"with {last.images()} fits into the memory that there is.",
            expected="room for the real images and for one short outer step.",
            next="free memory, or lower -o backbone.width or -o algo.batch, or keep real images "
            "in half the memory with -o data.storage=float16.",
        )
    raise InputError(
        f"no way to stay within engine.max_memory = {limit} was found: {size_text(between)} are in "
        f"use between steps, and the least for a whole run is {size_text(least)}, with "
        f"{last.images()}.",
        expected=f"at least {size_text(least)}.",
        next="raise --max-memory, or lower -o backbone.width or the lengths and batches of the "
        "algorithm (as -o algo.window, -o algo.batch), or keep real images in half the memory with "
        "-o data.storage=float16.",
    )


def candidates(engine: Engine, largest: int | None, caches: Sequence[int] = ()) -> Iterator[Engine]:
    """Yield engines in order of preference: retaining less and less, then fewer images at a time.

    >>> found = list(candidates(Engine(real_chunk=60), 20, [2000, 1000]))
    >>> [engine.activation_cache for engine in found]
    [2000, 1000, 0, 0, 0, 0, 0, 0, 0]
    >>> [(engine.real_chunk, engine.microbatch) for engine in found[2:]]
    [(60, None), (50, None), (25, None), (25, 12), (25, 6), (25, 3), (25, 1)]
    """
    for size in (*caches, 0):
        engine = replace(engine, activation_cache=size)
        yield engine
    if largest is None:
        return
    for chunk in REAL_CHUNKS:
        if chunk < engine.real_chunk:
            engine = replace(engine, real_chunk=chunk)
            yield engine
    for microbatch in MICROBATCHES:
        if microbatch < (engine.microbatch or largest):
            engine = replace(engine, microbatch=microbatch)
            yield engine
