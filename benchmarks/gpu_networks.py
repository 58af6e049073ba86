"""Part `networks` of `gpu.py`: how long fresh networks take that judge a poster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gpu_setting import assembly
from gpu_sizes import Job

from distill_core.judge import Candidate, judge


def networks(job: Job) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return the cells: networks trained on the patches of a poster, with and without kernels."""
    return {
        "as they are": partial(judged, job),
        "DISTILL_KERNELS=off": partial(judged, job, kernels=False),
    }


def judged(job: Job, *, kernels: bool = True) -> dict[str, Any]:
    """Seconds of fresh networks by the podd protocol, on noise: accuracies mean nothing."""
    if not kernels:
        os.environ["DISTILL_KERNELS"] = "off"
    try:
        made = assembly(job)
        ends: list[float] = [time.monotonic()]
        results = judge(
            Candidate.of(made),
            made.real,
            made.config,
            made.make_backbone,
            after_net=lambda what, net, value: ends.append(time.monotonic()),
        )
    finally:
        os.environ.pop("DISTILL_KERNELS", None)
    return {
        "networks": made.config.evaluate.nets,
        "steps": results["distilled"].recipe.steps,
        "seconds": results["distilled"].seconds,
        "first network": ends[1] - ends[0],
        "last network": ends[-1] - ends[-2],
    }
