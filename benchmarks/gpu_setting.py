"""What the parts of `gpu.py` measure: a poster, real images of noise, outer steps of RaT-BPTT.

Everything is chosen by the options that users have. An option that this version of distill does
not have is said, not passed over.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from gpu_sizes import Job, Sizes
from torch import Tensor

from distill_core.config.discovery import discover
from distill_core.config.run_config import RunConfig, resolve
from distill_core.config.sections import SECTIONS
from distill_core.config.settings import merge, parse_overrides
from distill_core.contracts.algorithm import Task
from distill_core.contracts.data import DataSpec, RealData, Split
from distill_core.contracts.streams import seeded
from distill_core.contracts.whitening import Whitening
from distill_core.run.assemble import Assembly, assemble
from distill_core.run.loop import OuterLoop
from distill_core.system.process import prepare
from registry import InputError, Plugins

AS_IS = ("engine.path=autograd", "engine.real_chunk={chunk}", "engine.activation_cache=256MiB")
TF32 = ("run.tf32=true",)
CACHE = ("engine.activation_cache=16GiB",)
KERNELS = ("engine.path=kernels",)
BF16 = ("engine.precision=bfloat16",)
GRAPHS, NO_GRAPHS = ("engine.graphs=auto",), ("engine.graphs=none",)
CLASSES = 10


class NotHere(InputError):
    """An option that this version of distill does not have."""


@cache
def plugins() -> Plugins:
    """Return what is installed or declared; looked for once."""
    found = discover()
    if found.failures or "ratbptt" not in found["algorithm"].names():
        reasons = "; ".join(each.reason for each in found.failures)
        raise InputError(
            f"the plugins of distill cannot be used{f': {reasons}' if reasons else ''}.",
            expected="an installed distill, or its checkout.",
            next="call benchmarks/gpu.py, which declares those of a checkout.",
        )
    return found


def here(pairs: Sequence[str]) -> list[str]:
    """Return the options, if this version has all of them.

    Raises:
        NotHere: it does not.
    """
    for pair in pairs:
        section, _, name = pair.partition("=")[0].partition(".")
        model = RunConfig if section == "run" else SECTIONS.get(section)
        if model is not None and name not in model.model_fields:
            raise NotHere(
                f"option {section}.{name} is not in this version.",
                expected="a version of distill that has it.",
                next="measure that one.",
            )
    return list(pairs)


def optional(pairs: Sequence[str]) -> tuple[str, ...]:
    """Return the options, or none where this version knows nothing to switch off."""
    try:
        return tuple(here(pairs))
    except NotHere:
        return ()


def configuration(
    job: Job, options: Sequence[str] = (), *, steps: int = 1, sizes: Sizes | None = None
) -> RunConfig:
    """Return the published outer step: the window always comes after `warm_up` steps."""
    sizes = sizes or job.sizes
    settings: dict[str, Any] = {
        "repr": "poster",
        "labeler": "poddl",
        "orderer": "identity",
        "algo": "ratbptt",
        "ipc": 1.0,
        "steps": steps,
        "device": job.device,
        "data": {"validation": 0.0},
        "evaluate": {
            "protocol": "podd",
            "nets": sizes.nets,
            "steps": sizes.net_steps,
            "controls": False,
        },
        "options": {
            "repr": {"classes": "2x5", "patches": sizes.patches, "size": sizes.poster},
            "labeler": {"mode": "learned"},
            "algo": {
                "window": sizes.window,
                "total": sizes.warm_up + sizes.window,
                "curriculum": "fixed",
                "inner_lr": 1e-3,
                "pixel_lr": 1e-3,
                "label_lr": 1e-3,
                "batch": sizes.batch,
                "real_batch": sizes.real,
                "clip": False,
            },
            "backbone": {"width": sizes.width, "depth": sizes.depth},
        },
    }
    pairs = [pair.format(chunk=sizes.chunks[0]) for pair in here(options)]
    return resolve(merge(settings, parse_overrides(pairs)), plugins())


def noise(sizes: Sizes, device: torch.device) -> RealData:
    """Return twice as many real images as an outer step takes, all different."""
    names = tuple(f"class {k}" for k in range(CLASSES))
    spec = DataSpec("noise", names, (3, sizes.side, sizes.side), ("flip", "rotate"))

    def split(count: int, name: str) -> Split:
        images = torch.randn(count, *spec.image_shape, generator=seeded(0, name))
        return Split(images.to(device), (torch.arange(count) % CLASSES).to(device))

    test = split(2 * sizes.real, "test")
    few = Split(test.images[:CLASSES], test.labels[:CLASSES])
    return RealData(spec, split(2 * sizes.real, "train"), few, test, Whitening("none"), "noise")


def assembly(
    job: Job,
    options: Sequence[str] = (),
    *,
    steps: int = 1,
    dtype: torch.dtype = torch.float32,
    sizes: Sizes | None = None,
) -> Assembly:
    """Return the parts of a run on noise; in float64 its numbers are those of float32.

    Raises:
        NotHere: an option is not in this version.
        ExplainedError: the options cannot be had here.
    """
    config = configuration(job, options, steps=steps, sizes=sizes)
    prepare(config)
    real = noise(sizes or job.sizes, torch.device(job.device))
    made = assemble(
        config,
        plugins(),
        class_grid=torch.arange(CLASSES).reshape(2, 5),
        real=real,
        start=False,
    )
    return made if dtype == torch.float32 else _in_type(made, dtype)


def _in_type(made: Assembly, dtype: torch.dtype) -> Assembly:
    real = replace(made.real, train=Split(made.real.train.images.to(dtype), made.real.train.labels))

    def new_backbone(generator: torch.Generator) -> Any:
        return made.make_backbone(generator).to(dtype)

    algorithm = plugins()["algorithm"].create(
        made.config.algo,
        made.config.options["algo"],
        task=Task(real=real, new_backbone=new_backbone, engine=made.engine),
    )
    return replace(
        made,
        real=real,
        synthetic=made.synthetic.to(dtype),
        algorithm=algorithm,
        make_backbone=new_backbone,
    )


@dataclass
class Clock:
    """Observes a run: the seconds and the loss of every outer step, and calls between them."""

    seconds: list[float]
    losses: list[float]
    between: Callable[[int], None] = lambda step: None

    @staticmethod
    def new(between: Callable[[int], None] = lambda step: None) -> Clock:
        return Clock([], [], between)

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.seconds.append(metrics["seconds"])
        self.losses.append(metrics.get("loss", float("nan")))
        self.between(step)

    def after_validation(self, step: int, accuracies: Sequence[float]) -> None:
        """Nothing is validated."""

    def after_going_back(self, step: int, what: str) -> None:
        """Nothing diverges."""


def outer_steps(made: Assembly, clock: Clock, folder: Path | None = None) -> OuterLoop:
    """Make the outer steps of a run by the outer loop; the last gradients stay in `.grad`."""
    with tempfile.TemporaryDirectory() as place:
        loop = OuterLoop(made, folder or Path(place), observers=[clock])
        loop.run()
    return loop


def hypergradient(made: Assembly) -> dict[str, Tensor]:
    """Return the hypergradients of pixels and labels, flat, in float64, on the CPU."""
    return {
        name: torch.cat([p.grad.double().cpu().flatten() for p in group if p.grad is not None])
        for name, group in made.synthetic.groups().items()
    }


def difference(found: Tensor, reference: Tensor) -> dict[str, float]:
    """Return relative error and cosine."""
    error = float((found - reference).norm() / reference.norm())
    return {"error": error, "cosine": float(torch.cosine_similarity(found, reference, dim=0))}


def timed(function: Callable[[], Any], job: Job) -> float:
    """Return the median of the seconds of a call, by the device's own clock where it is CUDA."""
    for _ in range(3):
        function()
    return statistics.median(_timings(function, job))


def _timings(function: Callable[[], Any], job: Job) -> Iterator[float]:
    for _ in range(job.sizes.repeats):
        if job.cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            function()
            end.record()
            end.synchronize()
            yield begin.elapsed_time(end) / 1000
        else:
            start = time.perf_counter()
            function()
            yield time.perf_counter() - start
