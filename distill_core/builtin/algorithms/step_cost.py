"""What the parts of an outer step cost: they are run, a few times, and the middle is taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from distill_core.plugin import PeakBytes, SyntheticDataset

RUNS, SECONDS = 5, 1.0


def measure_parts(run: Callable[[], Sequence[float]]) -> tuple[list[float], int]:
    """Return the seconds of each part, and the peak of tensor memory in bytes.

    Args:
        run: does all parts once and returns their seconds; it must leave no trace.
    """
    run()  # pays for what is set up once
    seconds = typical(run)
    with PeakBytes() as memory:
        run()
    return seconds, memory.peak


def typical(run: Callable[[], Sequence[float]]) -> list[float]:
    """Return the middle of a few measurements, one where they are long.

    A machine may have other work.

    Args:
        run: as for `measure_parts`, but what is set up once was paid for.
    """
    until = time.perf_counter() + SECONDS
    found = [run()]
    while len(found) < RUNS and time.perf_counter() < until:
        found.append(run())
    return [median(part) for part in zip(*found, strict=True)]


def clear_gradients(synthetic: SyntheticDataset) -> None:
    """Forget the gradients that a measurement left behind."""
    for parameter in synthetic.parameters():
        parameter.grad = None
