"""One measurement of `engine.py`, in a process of its own: JSON in, JSON out on the last line.

    python benchmarks/engine_child.py '{"what": "step", "path": "kernels"}'

A fresh process, because peak memory is that of a whole process, and because the allocator cannot
be set back.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from setting import ENGINES, GRAPH, Setting, Sizes, make_synthetic
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from distill_core.contracts.data import DataSpec
from distill_core.contracts.synthetic import Batch
from distill_core.data.augment import Draw
from distill_core.engine.inner_batches import InnerBatches
from distill_core.engine.unroll import send
from distill_core.system.process import tune_allocator


def step(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds of outer steps, after `untimed` ones that pay for memory that is new, and peaks."""
    made = _setting(asked)
    loaded = _peak()
    for _ in range(asked.get("untimed", 2)):
        made.outer_step(asked["path"])
    seconds = []
    for _ in range(asked.get("timed", 1)):
        start = time.perf_counter()
        made.outer_step(asked["path"])
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "peak": _peak(), "loaded": loaded}


def flop(asked: dict[str, Any]) -> dict[str, Any]:
    """Operations of one outer step by PyTorch's formulas: convolutions, products of matrices."""
    made = _setting(asked)
    with Flop() as counter:
        made.outer_step(asked["path"])
    return {"flop": counter.total}


class Flop(TorchDispatchMode):
    """Adds up operations; unlike `FlopCounterMode` it can go through `autograd.grad`."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](
                *args, **(kwargs or {}), out_val=result
            )
        return result


def hypergradient(asked: dict[str, Any]) -> dict[str, Any]:
    """The hypergradient of drawn boxes and real images, written to `file`."""
    made = _setting(asked)
    loss = made.outer_step(asked["path"], seed=asked["seed"])
    torch.save(made.hypergradient(), asked["file"])
    return {"loss": loss}


def convolution(asked: dict[str, Any]) -> dict[str, Any]:
    """GFLOP/s of PyTorch's convolution of (96, 128, 16, 16) with 128 filters, best of 20."""
    del asked
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        images = torch.randn(96, 128, 16, 16, dtype=dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        weight = torch.randn(128, 128, 3, 3, dtype=dtype)
        weight = weight.contiguous(memory_format=torch.channels_last)
        seconds = []
        for _ in range(22):
            start = time.perf_counter()
            torch.ops.aten.convolution(
                images, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1
            )
            seconds.append(time.perf_counter() - start)
        work = 2 * images.numel() * weight[0].numel()
        found[str(dtype).removeprefix("torch.")] = work / min(seconds[2:]) / 1e9
    return found


def expansion(asked: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of expanding all patches of a CUB-200 poster with their labels, and back."""
    del asked
    spec = DataSpec("random", tuple(map(str, range(200))), (3, 32, 32), ())
    synthetic = make_synthetic(spec, poster="302x610", patches="30x60")
    everything = synthetic.placement.layout.items
    plain = Draw("", torch.zeros(len(everything), 0))
    times: dict[str, list[float]] = {"expand": [], "back": [], "both": []}
    cotangents = None
    for _ in range(25):
        start = time.perf_counter()
        batches = InnerBatches(synthetic, [everything], [plain])
        with torch.enable_grad():
            batch = batches(0)
        middle = time.perf_counter()
        cotangents = cotangents or Batch(*(torch.randn_like(part) for part in batch))
        send(batch, cotangents)
        sent = time.perf_counter()
        batches.flush()
        end = time.perf_counter()
        for name, value in (("expand", middle - start), ("back", end - sent)):
            times[name].append(1000 * value)
        times["both"].append(1000 * (middle - start + end - sent))
    return {name: values[5:] for name, values in times.items()} | {"patches": len(everything)}


def rate(asked: dict[str, Any]) -> dict[str, Any]:
    """Outer steps per second during `seconds`, from the moment that the parent says so."""
    made = _setting(asked)
    for _ in range(2):
        made.outer_step(asked["path"])
    print("ready", flush=True)
    sys.stdin.readline()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < asked["seconds"]:
        made.outer_step(asked["path"])
        count += 1
    return {"rate": count / (time.perf_counter() - start)}


def _setting(asked: dict[str, Any]) -> Setting:
    path = asked["path"]
    dtype = torch.float32 if path == GRAPH else ENGINES[path][1]
    return Setting.make(Sizes(**asked.get("sizes", {})), dtype)


def _peak() -> int:
    """Most bytes that this process ever had in memory. Linux alone counts it in kilobytes.

    Not `ru_maxrss`, which begins with the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


MEASUREMENTS = {f.__name__: f for f in (step, flop, hypergradient, convolution, expansion, rate)}


def main(asked: dict[str, Any]) -> None:
    """Measure what is asked for."""
    torch.set_num_threads(asked.get("threads", 1))
    allocator = asked.get("allocator", "tuned")
    if allocator == "tuned" and not tune_allocator():
        allocator = "stock"
    found = MEASUREMENTS[asked["what"]](asked)
    print(json.dumps({**found, "allocator": allocator, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
