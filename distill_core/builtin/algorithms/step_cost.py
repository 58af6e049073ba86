"""What the parts of an outer step cost: they are run a few times, and the median is taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median

import torch

from distill_core.plugin import PeakBytes, SyntheticDataset, wait

RUNS, SECONDS = 5, 1.0
Lap = Callable[[], None]


def measure_parts(
    run: Callable[[Lap], None], synthetic: SyntheticDataset, device: torch.device
) -> tuple[list[float], int]:
    """Return the seconds of each part, and the peak of tensor memory in bytes.

    Args:
        run: does all parts once, and calls its argument after each; it must leave no trace except
            gradients of the synthetic dataset.
        synthetic: its gradients are cleared after each run.
        device: is waited for after each part.
    """

    def once() -> list[float]:
        times = [time.perf_counter()]

        def lap() -> None:
            wait(device)
            times.append(time.perf_counter())

        run(lap)
        clear_gradients(synthetic)
        return [after - before for before, after in pairwise(times)]

    once()  # pays for what is set up once
    seconds = typical(once)
    with PeakBytes() as memory:
        once()
    return seconds, memory.peak


def typical(run: Callable[[], Sequence[float]]) -> list[float]:
    """Return the median of a few measurements, or one where they are long.

    A machine may have other work.

    Args:
        run: does all parts once and returns their seconds; what is set up once was paid for.
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
