"""Part `exactness` of `gpu.py`: the hypergradient of an outer step by every path, against float64.

The reference is float64 by autograd on the same device, which a short outer step ties to the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from gpu_setting import (
    BF16,
    CACHE,
    GRAPHS,
    KERNELS,
    NO_GRAPHS,
    TF32,
    Clock,
    assembly,
    difference,
    hypergradient,
    optional,
    outer_steps,
)
from gpu_sizes import Job, Sizes
from torch import Tensor

AUTOGRAD = ("engine.path=autograd", "run.tf32=false")
PATHS: dict[str, tuple[str, ...]] = {
    "autograd, fp32": AUTOGRAD,
    "autograd, fp32, activations retained": (*AUTOGRAD, *CACHE),
    "autograd, TF32": (*AUTOGRAD, *TF32),
    "autograd, fp32, graphs": (*AUTOGRAD, *GRAPHS),
    "autograd, TF32, graphs": (*AUTOGRAD, *TF32, *GRAPHS),
    "kernels, fp32": (*KERNELS, "run.tf32=false"),
    "kernels, TF32": (*KERNELS, *TF32),
    "kernels, TF32, graphs": (*KERNELS, *TF32, *GRAPHS),
    "kernels, bf16": (*KERNELS, *TF32, *BF16),
    "kernels, bf16, graphs": (*KERNELS, *TF32, *BF16, *GRAPHS),
    "defaults": (),
}


def exactness(job: Job) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return the cells: short steps against the CPU, then whole ones against float64."""
    before, window, real = job.sizes.short
    short = replace(job.sizes, warm_up=before, window=window, real=real)

    @cache
    def reference(sizes: Sizes, device: str) -> dict[str, Tensor]:
        there = replace(job, device=device)
        options = (*AUTOGRAD, *optional(NO_GRAPHS))
        return _found(there, options, sizes, torch.float64)

    def short_float64() -> dict[str, Any]:
        return compared(reference(short, job.device), reference(short, "cpu"))

    def short_path(options: Sequence[str]) -> dict[str, Any]:
        return compared(_found(job, options, short), reference(short, "cpu"))

    def path(options: Sequence[str]) -> dict[str, Any]:
        return compared(_found(job, options, job.sizes), reference(job.sizes, job.device))

    steps = f"{before} + {window} steps, against float64 on the CPU"
    cells: dict[str, Callable[[], dict[str, Any]]] = {f"float64: {steps}": short_float64}
    for name in ("autograd, fp32", "autograd, TF32", "kernels, fp32", "kernels, TF32"):
        cells[f"{name}: {steps}"] = partial(short_path, PATHS[name])
    for name, options in PATHS.items():
        cells[name] = partial(path, options)
    return cells


def compared(found: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, Any]:
    """Return relative errors and cosines of pixels and labels."""
    told: dict[str, Any] = {}
    for group, name in (("data", "pixels"), ("labels", "labels")):
        figures = difference(found[group], reference[group])
        told |= {f"{name}, relative error": figures["error"], f"{name}, cosine": figures["cosine"]}
    return told


def _found(
    job: Job, options: Sequence[str], sizes: Sizes, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    made = assembly(job, options, dtype=dtype, sizes=sizes)
    outer_steps(made, Clock.new())
    return hypergradient(made)
