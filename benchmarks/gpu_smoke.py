"""Part `smoke` of `gpu.py`: every learning algorithm runs, resumes, and computes as on a CPU."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_setting import Clock, hypergradient, plugins
from gpu_sizes import Job

from distill_core.config.run_config import RunConfig, resolve
from distill_core.run.assemble import assemble
from distill_core.run.checkpoint import load_checkpoint
from distill_core.run.loop import OuterLoop
from distill_core.system.process import prepare

TOLERANCE = 1e-2  # of the hypergradient's norm: sums round differently on another device
# As tests/matrix.py; the problem is as tiny on every device.
QUICK: dict[str, dict[str, Any]] = {
    "ratbptt": {"window": 2, "total": 4, "batch": 8, "real_batch": 16, "inner_lr": 0.01},
    "bptt": {"steps": 3, "real_per_class": 4},
    "dd": {"steps": 3},
    "mtt": {"syn_steps": 3, "experts": 2},
    "ftd": {"syn_steps": 3, "experts": 2},
    "tesla": {"syn_steps": 3, "experts": 2},
    "rcig": {"pool": 2, "inner_steps": 3, "inner_lr": 0.1, "inverse_steps": 3},
}
SYNCHRONISES = "called a synchronizing CUDA operation"


def smoke(job: Job) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return a cell for every algorithm of the catalogue that learns."""
    names = [name for name in plugins()["algorithm"].names() if name != "none"]
    return {name: partial(one, job, name) for name in names}


def one(job: Job, algorithm: str) -> dict[str, Any]:
    """Two outer steps in one go, and with a checkpoint between; the first also on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        waits = Waits()
        whole = _run(job, algorithm, 2, Path(folder, "whole"), waits if job.cuda else None)
        first = _run(job, algorithm, 1, Path(folder, "parts"))
        parts = _run(job, algorithm, 2, Path(folder, "parts"), resume=True)
        gone_on = _apart(whole, parts)
        cpu = _run(replace(job, device="cpu"), algorithm, 1, Path(folder, "cpu"))
    found, reference = (hypergradient(loop.assembly) for loop in (first, cpu))
    errors = {
        group: float((found[group] - exact).norm() / exact.norm())
        for group, exact in reference.items()
    }
    return {
        "resumed apart": gone_on,
        **{f"hypergradient of {group} to the CPU's": error for group, error in errors.items()},
        "equal": max(errors.values()) < TOLERANCE,
        "waits in an outer step": waits.count if job.cuda else "not on a CPU",
        "where": waits.places(),
    }


def _run(
    job: Job,
    algorithm: str,
    steps: int,
    folder: Path,
    waits: Waits | None = None,
    *,
    resume: bool = False,
) -> OuterLoop:
    config = _small(job, algorithm, steps)
    prepare(config)
    state = load_checkpoint(folder, config) if resume else {}
    made = assemble(config, plugins(), class_grid=state.get("class_grid"), start=not resume)
    loop = OuterLoop(made, folder, observers=[Clock.new(waits.between)] if waits else [])
    if resume:
        loop.load_state_dict(state)
    with waits or warnings.catch_warnings():
        loop.run()
    return loop


def _small(job: Job, algorithm: str, steps: int) -> RunConfig:
    settings = {
        "repr": "poster",
        "labeler": "poddl",
        "orderer": "identity",
        "algo": algorithm,
        "dataset": "shapes",
        "ipc": 1.0,
        "steps": steps,
        "device": job.device,
        "options": {
            "repr": {"patches": "2x5"},
            "dataset": {"classes": 6, "size": 8, "train_per_class": 6, "test_per_class": 3},
            "backbone": {"width": 4, "depth": 1},
            "algo": QUICK.get(algorithm, {}),
        },
    }
    return resolve(settings, plugins())


def _apart(one: OuterLoop, other: OuterLoop) -> float:
    """Largest difference between two results, in pixels and labels."""
    ends = (loop.assembly.synthetic.state_dict().values() for loop in (one, other))
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(*ends, strict=True))


class Waits:
    """Counts where the program waits for the device, in the second outer step alone."""

    def __init__(self) -> None:
        self.count = 0
        self._found: Counter[str] = Counter()
        self._catch = warnings.catch_warnings(record=True)
        self._record: list[warnings.WarningMessage] = []

    def __enter__(self) -> Waits:
        self._record = self._catch.__enter__() or []
        warnings.simplefilter("always")
        return self

    def between(self, step: int) -> None:
        """Begin to count after the first step, and end after the second."""
        if step == 1:
            torch.cuda.set_sync_debug_mode("warn")
        else:
            torch.cuda.set_sync_debug_mode("default")

    def __exit__(self, *error: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")
        self._catch.__exit__(*error)
        self._found = places(self._record)
        self.count = sum(self._found.values())

    def places(self) -> str:
        """Return the lines that wait most often."""
        return ", ".join(f"{place} {count}" for place, count in self._found.most_common(6))


def places(found: Iterable[warnings.WarningMessage]) -> Counter[str]:
    """Count warnings of waits by the line that they come from."""
    return Counter(
        f"{Path(each.filename).name}:{each.lineno}"
        for each in found
        if SYNCHRONISES in str(each.message)
    )
