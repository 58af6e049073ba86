"""How long a run will take, said before its first step; a long one on a CPU needs `--yes`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from distill_core.contracts.streams import Streams
from distill_core.run.assemble import Assembly
from distill_core.run.progress import predicted_course
from distill_core.system.arithmetic import inner_precision
from distill_core.system.cores import count_cores
from distill_core.system.units import duration
from registry import ExplainedError, InputError

HOUR = 3600.0
FEW = 50  # outer steps: the first of so few tells the pace soon enough


def forecast(
    assembly: Assembly,
    state: Mapping[str, Any],
    *,
    longest: float | None,
    tell: Callable[[str], None],
) -> None:
    """Measure an outer step on a copy of the algorithm, and say how long the others will take.

    On a card nothing is measured: a trial there would change what the run reports of its memory.

    Args:
        assembly: the parts of the run; they stay as they are.
        state: of a run that is resumed; empty: it begins.
        longest: seconds above which a run without limit is refused; None: it never is.
        tell: called with a line.

    Raises:
        InputError: the run would take longer.
    """
    config, spent = assembly.config, float(state.get("seconds", 0.0)) / 60
    left = None if config.minutes is None else max(config.minutes - spent, 0.0)
    steps = assembly.steps - int(state.get("step", 0))
    if steps < FEW or left == 0 or assembly.device.type != "cpu":
        return
    try:
        with inner_precision(config):
            estimate = assembly.new_algorithm().estimate(
                assembly.synthetic, rng=Streams(config.seed)
            )
    except ExplainedError as error:
        tell(f"cost     not predicted: {error.what}")
        return
    if estimate is None:
        return
    course = predicted_course(steps, left, seconds=estimate.seconds)
    seconds = f"{estimate.seconds:.2g}" if estimate.seconds < 100 else f"{estimate.seconds:.0f}"
    tell(f"cost     one outer step: {seconds} s; {course}")
    total, busy = steps * estimate.seconds, _of_a_busy_machine()
    if longest is not None and left is None and total > longest:
        raise InputError(
            f"the run would take about {duration(total)} on this CPU.",
            expected=f"at most {duration(longest)}, a limit in minutes, or your word that it may.",
            next=(busy and f"{busy} Or ")
            + "pass --yes to run it all, --minutes 30 to stop then, or a preset that takes "
            "minutes: own-cpu-minutes for your own pictures, or see `distill list presets`.",
        )
    if busy:
        tell(f"cost     {busy}")


def _of_a_busy_machine() -> str:
    """Threads wait for each other where other programs use the cores: a step takes many times as
    long then as on one thread."""
    cores = count_cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if torch.get_num_threads() == 1 or load < cores:
        return ""
    return (
        f"Other programs use these cores (a load of {load:.0f} on {cores}): one "
        "thread may be many times as fast, -o run.threads=1."
    )
