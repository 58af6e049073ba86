"""Part `steps` of `gpu.py`: what an outer step takes, with every lever alone and with all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

import graph_unroll
import torch
from gpu_setting import (
    AS_IS,
    BF16,
    CACHE,
    GRAPHS,
    KERNELS,
    NO_GRAPHS,
    TF32,
    Clock,
    NotHere,
    assembly,
    optional,
    outer_steps,
    timed,
)
from gpu_sizes import Job
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from distill_core.contracts.network import FlatModel
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import Batch
from distill_core.data.augment import Augmentation
from distill_core.engine.inner_batches import InnerBatches
from distill_core.engine.kernels import choice
from distill_core.engine.kernels.torch_functions import PLAIN, compiled
from distill_core.engine.optimizers import Adam
from distill_core.run.assemble import Assembly
from distill_core.system.arithmetic import inner_precision
from distill_core.system.process import release_memory

Cell = Callable[[], dict[str, Any]]
INNER_LR = 1e-3
BLOCKS = ("plain", "compiled")  # besides what the engine takes


def steps(job: Job) -> dict[str, Cell]:
    """Return the cells: outer steps by lever, then their parts, then profiles."""
    base = (*AS_IS, "run.tf32=false", *optional(NO_GRAPHS))
    larger = [f"engine.real_chunk={size}" for size in job.sizes.chunks[1:]]
    fast = (*TF32, *CACHE, larger[0])
    eager = (*base, *fast)
    by_hand = (*eager, *KERNELS)
    levers: dict[str, tuple[Sequence[str], bool | None]] = {
        "A, eager, fp32": (base, False),
        "A with TF32": ((*base, *TF32), False),
        "A with cudnn.benchmark": (base, True),
        "A with 16 GiB retained": ((*base, *CACHE), False),
        **{f"A with {chunk}": ((*base, chunk), False) for chunk in larger},
        "A with graphs": ((*base, *GRAPHS), False),
        "A with kernels": ((*base, *KERNELS), False),
        "B, all of that but graphs and kernels": (eager, True),
        "C, B with graphs": ((*eager, *GRAPHS), True),
        "D without graphs": (by_hand, True),
        "D, kernels and graphs": ((*by_hand, *GRAPHS), True),
        "E, D in bf16": ((*by_hand, *GRAPHS, *BF16), True),
        "defaults": ((), None),
    }
    cells: dict[str, Cell] = {
        name: partial(outer, job, options, benchmark=benchmark)
        for name, (options, benchmark) in levers.items()
    }
    for kind in BLOCKS if job.cuda else ():
        for name, options in {"without graphs": by_hand, "and graphs": (*by_hand, *GRAPHS)}.items():
            cells[f"D {name}, blocks {kind}"] = partial(
                outer, job, options, benchmark=True, blocks=kind
            )
    cells["graph of the window kept, fp32"] = partial(kept_graph, job, base)
    cells["graph of the window kept, TF32"] = partial(kept_graph, job, (*base, *TF32))
    for name, options in {"A": base, "B": eager, "D": by_hand}.items():
        cells[f"parts of {name}, ms"] = partial(parts, job, options, benchmark=name != "A")
    cells["profile of B"] = partial(profiles, job, eager)
    cells["profile of D"] = partial(profiles, job, by_hand)
    return cells


def outer(
    job: Job, options: Sequence[str], *, benchmark: bool | None, blocks: str = ""
) -> dict[str, Any]:
    """Seconds of whole outer steps, the optimizer's and the checks with them, and the peak.

    Args:
        job: what is measured.
        options: as `-o`.
        benchmark: of cuDNN; None leaves it as runs have it.
        blocks: functions between the kernels' convolutions, in place of those that runs have.
    """
    sizes, clock = job.sizes, Clock.new()
    with other_blocks(blocks):
        made = assembly(job, options, steps=sizes.untimed + sizes.timed)
        if benchmark is not None:
            torch.backends.cudnn.benchmark = benchmark
        outer_steps(made, clock)
    return {
        **_seconds(clock.seconds[sizes.untimed :]),
        "first step": clock.seconds[0],
        "loss": clock.losses[-1],
        **_peak(job),
        "engine": made.engine.describe(),
    }


@contextmanager
def other_blocks(kind: str) -> Iterator[None]:
    """Let the kernels of a CUDA device be built on other functions, for comparison.

    Raises:
        NotHere: this version has no choice.
    """
    if not kind:
        yield
        return
    if not hasattr(choice, "fused"):
        raise NotHere(
            "the kernels on CUDA have no other functions in this version.",
            expected="a version with fused ones.",
            next="measure that one.",
        )
    functions = compiled() if kind == "compiled" else PLAIN
    before, choice.fused = choice.fused, lambda device: functions
    try:
        yield
    finally:
        choice.fused = before


def kept_graph(job: Job, options: Sequence[str]) -> dict[str, Any]:
    """Seconds of what published code does: the graph of all window steps, one real batch."""
    made, sizes = assembly(job, options), job.sizes
    seconds = []
    for turn in range(1 + sizes.timed // 2):
        release_memory()
        start = time.perf_counter()
        rng = Streams(turn)
        augmentation, boxes, draws = _inner(made, rng, sizes.warm_up + sizes.window)
        index = made.real.train.draw(sizes.real, generator=rng["real"])
        draw = augmentation.draw(len(index), (sizes.side, sizes.side), generator=rng["augment"])
        images = augmentation.apply(made.real.train.take(index), draw)
        targets = functional.one_hot(made.real.train.labels[index], made.real.spec.num_classes)
        with inner_precision(made.config):
            graph_unroll.outer_step(
                FlatModel(made.make_backbone(rng["backbone"])),
                Adam(INNER_LR),
                made.synthetic,
                boxes,
                draws,
                real=Batch(images, targets.to(images.dtype)),
                window=sizes.window,
            )
        seconds.append(time.perf_counter() - start)
    return {**_seconds(seconds[1:]), "first step": seconds[0], **_peak(job)}


def parts(job: Job, options: Sequence[str], *, benchmark: bool) -> dict[str, Any]:
    """Milliseconds of the parts of an outer step; not how often each comes."""
    pieces = Pieces(job, options)
    torch.backends.cudnn.benchmark = benchmark
    calls = {
        "batch": pieces.batch,
        "gradient": pieces.gradient,
        "Adam": pieces.adam,
        "product, recomputed": pieces.product,
        "real chunk": pieces.real,
    }
    with inner_precision(pieces.config):
        return {name: 1000 * timed(call, job) for name, call in calls.items()}


def profiles(job: Job, options: Sequence[str]) -> dict[str, Any]:
    """Where the time of an inner step and of a step back in the window goes, kernel by kernel."""
    pieces, pages = Pieces(job, options), []
    for title, calls in {
        "inner step": (pieces.batch, pieces.gradient, pieces.adam),
        "step back in the window": (pieces.batch, pieces.product),
    }.items():
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if job.cuda else [])]
        with inner_precision(pieces.config):
            for _ in range(3):
                for call in calls:
                    call()
            with profile(activities=activities) as found:
                for call in calls:
                    call()
                if job.cuda:
                    torch.cuda.synchronize()
        key = "self_cuda_time_total" if job.cuda else "self_cpu_time_total"
        rows = found.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=70)
        pages.append(f"{title}\n{rows}")
    return {"text": "\n\n".join(pages)}


class Pieces:
    """The parts of an outer step by themselves, on the same things each time."""

    def __init__(self, job: Job, options: Sequence[str]) -> None:
        made = assembly(job, options)
        rng = Streams(0)
        _, boxes, draws = _inner(made, rng, 16)
        self.config = made.config
        self.loss = made.engine.loss(made.make_backbone(rng["backbone"]))
        self.theta = self.loss.model.theta.detach()
        self.vector = torch.randn_like(self.theta)
        self.optimizer = Adam(INNER_LR)
        self.state = self.optimizer.init(self.theta)
        self._batches, self._turns = InnerBatches(made.synthetic, boxes, draws), count()
        self._batch = self._batches(0)
        chunk = min(made.engine.real_chunk, job.sizes.real)
        images = made.real.train.take(slice(0, chunk))
        labels = functional.one_hot(made.real.train.labels[:chunk], made.real.spec.num_classes)
        self._real = Batch(images, labels.to(images.dtype))

    def batch(self) -> Batch:
        """Look images and labels of a step up, and augment them."""
        return self._batches(next(self._turns) % 16)

    def gradient(self) -> Any:
        """The gradient of an inner step."""
        return self.loss.evaluate(self.theta, self._batch)

    def adam(self) -> Any:
        """The optimizer's move."""
        with torch.no_grad():
            return self.optimizer.update(self.theta, self.vector, self.state, INNER_LR)

    def product(self) -> Any:
        """The product of a step back."""
        return self.loss.product(self.theta, self._batch, self.vector)

    def real(self) -> Any:
        """The gradient on real images."""
        return self.loss.evaluate(self.theta, self._real)


def _inner(made: Assembly, rng: Streams, number: int) -> tuple[Augmentation, list[Any], list[Any]]:
    """The augmentation, and boxes and draws of inner steps."""
    augmentation = Augmentation.named("flip_rotate", made.real.spec.augmentations)
    size, hw = made.config.options["algo"].batch, made.real.spec.image_shape[1:]
    boxes = [made.synthetic.draw(size, generator=rng["draw"]) for _ in range(number)]
    draws = [augmentation.draw(len(b), hw, generator=rng["augment"]) for b in boxes]
    return augmentation, boxes, draws


def _seconds(found: Sequence[float]) -> dict[str, Any]:
    return {"seconds": statistics.median(found), "least": min(found), "most": max(found)}


def _peak(job: Job) -> dict[str, Any]:
    if not job.cuda:
        return {}
    return {
        "peak MiB": torch.cuda.max_memory_allocated() / 2**20,
        "reserved MiB": torch.cuda.max_memory_reserved() / 2**20,
    }
