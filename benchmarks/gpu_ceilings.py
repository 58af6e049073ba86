"""Part `ceilings` of `gpu.py`: what the device can do at the shapes of the published ConvNet."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gpu_setting import timed
from gpu_sizes import Job
from torch import Tensor

SETS = 4  # inputs that take turns, so that they are not all in the cache
FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
PRECISIONS = {"fp32": "ieee", "TF32": "tf32"}


def ceilings(job: Job) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return the cells: the copy, then convolutions by shape, precision, layout and choice."""
    sizes = job.sizes
    cells: dict[str, Callable[[], dict[str, Any]]] = {"copy": partial(copy, job)}
    shapes = [(3 if block == 0 else sizes.width, sizes.side >> block) for block in range(3)]
    each = list(itertools.product(PRECISIONS, FORMATS, (False, True)))
    for (channels, side), (precision, layout, benchmark) in itertools.product(shapes, each):
        name = (
            f"{channels} to {sizes.width} at {side}x{side}, {_told(precision, layout, benchmark)}"
        )
        how = {"precision": precision, "layout": layout, "benchmark": benchmark}
        cells[name] = partial(convolution, job, channels, side, **how)
    for precision, layout, benchmark in each:
        name = f"filters of {sizes.side // 2}x{sizes.side // 2}, "
        name += _told(precision, layout, benchmark)
        cells[name] = partial(filters, job, precision, layout, benchmark)
    return cells


def copy(job: Job) -> dict[str, Any]:
    """Bandwidth of a copy on the device, bytes read and bytes written."""
    source = torch.randn(job.sizes.copy // 4, device=job.device)
    target = torch.empty_like(source)
    seconds = timed(lambda: target.copy_(source), job)
    return {"ms": 1000 * seconds, "GB/s": 2 * source.nbytes / seconds / 1e9}


def convolution(
    job: Job, channels: int, side: int, *, precision: str, layout: str, benchmark: bool
) -> dict[str, Any]:
    """A convolution of 3x3 filters, its gradient in the input and that in the filters."""
    _choose(precision, benchmark)
    batch, width = job.sizes.batch, job.sizes.width
    inputs = _sets(job, (batch, channels, side, side), layout)
    outputs = _sets(job, (batch, width, side, side), layout)
    weight = _sets(job, (width, channels, 3, 3), layout)[0]
    turns = itertools.cycle(range(SETS))
    work = 2 * outputs[0].numel() * weight[0].numel()

    def forward() -> Tensor:
        return torch.nn.functional.conv2d(inputs[next(turns)], weight, padding=1)

    def backward(mask: tuple[bool, bool, bool]) -> Any:
        turn = next(turns)
        return torch.ops.aten.convolution_backward(
            outputs[turn], inputs[turn], weight, None,
            [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask,
        )  # fmt: skip

    calls = {
        "forward": forward,
        "input gradient": partial(backward, (True, False, False)),
        "filter gradient": partial(backward, (False, True, False)),
    }
    return _rates({name: (call, work) for name, call in calls.items()}, job)


def filters(job: Job, precision: str, layout: str, benchmark: bool) -> dict[str, Any]:
    """The convolution with images for filters that a double backward makes; out come 3x3."""
    _choose(precision, benchmark)
    width, batch, side = job.sizes.width, job.sizes.batch, job.sizes.side // 2
    inputs = _sets(job, (width, batch, side, side), layout)
    turns = itertools.cycle(range(SETS))

    def forward() -> Tensor:
        turn = next(turns)
        return torch.nn.functional.conv2d(inputs[turn], inputs[turn - 1], padding=1)

    return _rates({"forward": (forward, 2 * width * 9 * inputs[0].numel())}, job)


def _rates(calls: dict[str, tuple[Callable[[], Any], int]], job: Job) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (call, work) in calls.items():
        seconds = timed(call, job)
        found |= {f"{name}, ms": 1000 * seconds, f"{name}, TFLOP/s": work / seconds / 1e12}
    return found


def _choose(precision: str, benchmark: bool) -> None:
    torch.backends.cudnn.conv.fp32_precision = PRECISIONS[precision]
    torch.backends.cudnn.benchmark = benchmark


def _sets(job: Job, shape: tuple[int, ...], layout: str) -> list[Tensor]:
    return [
        torch.randn(shape, device=job.device).contiguous(memory_format=FORMATS[layout])
        for _ in range(SETS)
    ]


def _told(precision: str, layout: str, benchmark: bool) -> str:
    return f"{precision}, {layout}{', benchmark' if benchmark else ''}"
