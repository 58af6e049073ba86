"""Parts `memory` and `deterministic` of `gpu.py`: is what was promised kept?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from gpu_setting import AS_IS, CACHE, KERNELS, Clock, assembly, outer_steps
from gpu_sizes import Job
from torch import Tensor

from distill_core.contracts.streams import Streams
from distill_core.engine.memory_trial import MemoryTrial
from distill_core.system.arithmetic import inner_precision
from distill_core.system.memory import context_memory, peak_memory
from distill_core.system.process import release_memory
from distill_core.system.units import parse_size

Cell = Callable[[], dict[str, Any]]
LIMITS = ("4GiB", "1500MiB")
MIB = 2**20


def memory(job: Job) -> dict[str, Cell]:
    """Return the cells: whole outer steps as they are, and within limits."""
    variants: dict[str, tuple[str, ...]] = {
        "autograd, 256 MiB retained": AS_IS,
        "autograd, 16 GiB retained": (*AS_IS, *CACHE),
        "kernels": KERNELS,
        "defaults": (),
    }
    cells: dict[str, Cell] = {
        name: partial(measured, job, options) for name, options in variants.items()
    }
    for limit in LIMITS:
        options = (f"engine.max_memory={limit}",)
        cells[f"--max-memory {limit}"] = partial(measured, job, options, limit=limit)
        options = (*options, "engine.path=autograd")
        cells[f"--max-memory {limit}, autograd"] = partial(measured, job, options, limit=limit)
    return cells


def measured(job: Job, options: Sequence[str], *, limit: str = "") -> dict[str, Any]:
    """What a dry run predicts, and what two outer steps then take."""
    made = assembly(job, options, steps=2)
    device = torch.device(job.device)
    trial = MemoryTrial(device)
    with inner_precision(made.config):
        estimate = trial.run(lambda: made.algorithm.estimate(made.synthetic, rng=Streams(0)))
    assert estimate is not None
    predicted = trial.in_use() + estimate.memory
    release_memory()
    if job.cuda:
        torch.cuda.reset_peak_memory_stats()
    outer_steps(made, Clock.new())
    peak = peak_memory(device)
    told: dict[str, Any] = {
        "predicted MiB": predicted / MIB,
        "measured MiB": peak / MIB,
        "measured / predicted": peak / predicted,
    }
    if job.cuda:
        told["tensors MiB"] = torch.cuda.max_memory_allocated() / MIB
        told["held by PyTorch MiB"] = torch.cuda.max_memory_reserved() / MIB
        told["context MiB"] = context_memory(device) / MIB
    if limit:
        told["kept"] = peak <= parse_size(limit, what="--max-memory")
    return {**told, "engine": made.engine.describe()}


def deterministic(job: Job) -> dict[str, Cell]:
    """Return the cells: with the option and, to see what it changes, without."""
    cells: dict[str, Cell] = {}
    for path, options in {"autograd": AS_IS, "kernels": KERNELS, "defaults": ()}.items():
        asked = (*options, "run.deterministic=true")
        cells[f"{path}, deterministic"] = partial(twice, job, asked)
    cells["autograd"] = partial(twice, job, (*AS_IS, "run.deterministic=false"))
    return cells


def twice(job: Job, options: Sequence[str]) -> dict[str, Any]:
    """Two runs of a few outer steps: the same bits? And what PyTorch warns of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        ends = [_end(job, options) for _ in range(2)]
        torch.use_deterministic_algorithms(False)
    equal = all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    apart = max(float((a - b).abs().max()) for a, b in zip(*ends, strict=True))
    told = sorted({str(each.message).split(". ")[0] for each in found})
    return {
        "equal bits": equal,
        "largest difference": apart,
        "warnings": "; ".join(told) or "none",
    }


def _end(job: Job, options: Sequence[str]) -> list[Tensor]:
    made = assembly(job, options, steps=2)
    outer_steps(made, Clock.new())
    return [value.detach().double().cpu() for value in made.synthetic.state_dict().values()]
