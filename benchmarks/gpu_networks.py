"""Part `networks` of `gpu.py`: how long fresh networks take that judge a poster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gpu_setting import assembly
from gpu_sizes import Job

from distill_core.evaluation.judge import judge
from distill_core.run.validation import candidate_of, evaluator_of


def networks(job: Job) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return the cells: networks trained on the patches of a poster, with all and without some."""
    off = {
        "as they are": (),
        "DISTILL_GRAPHS=off": ("DISTILL_GRAPHS",),
        "DISTILL_KERNELS=off": ("DISTILL_KERNELS",),
        "both off": ("DISTILL_GRAPHS", "DISTILL_KERNELS"),
    }
    return {name: partial(judged, job, off=switches) for name, switches in off.items()}


def judged(job: Job, *, off: Sequence[str] = ()) -> dict[str, Any]:
    """Seconds of fresh networks by the podd protocol, on noise: accuracies mean nothing.

    Args:
        job: what is measured.
        off: environment variables that are "off" meanwhile.
    """
    os.environ.update(dict.fromkeys(off, "off"))
    try:
        made = assembly(job)
        ends: list[float] = [time.monotonic()]
        evaluator = evaluator_of(made, after_net=lambda *_: ends.append(time.monotonic()))
        results = judge(candidate_of(made), evaluator, made.config.evaluate)
    finally:
        for name in off:
            del os.environ[name]
    return {
        "networks": made.config.evaluate.nets,
        "steps": results["distilled"].recipe.steps,
        "seconds": results["distilled"].seconds,
        "first network": ends[1] - ends[0],
        "last network": ends[-1] - ends[-2],
    }
