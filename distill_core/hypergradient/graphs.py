"""CUDA graphs: operations that are captured once and replayed.

An inner step is some hundred small kernels; launched one by one they keep a fast card waiting for
the processor. A graph launches all of them at once. What is captured reads and writes memory that
stays in place, does the same operations every time, never waits for the device and draws nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

WARM_UPS = 3  # runs before a capture, in which libraries choose and set up what they need
MOST_SHAPES = 8

Replay = Callable[[], Sequence[Tensor]]
Captured = tuple[Sequence[Tensor], Replay]  # where the arguments lie, and what replays


class Capture(Protocol):
    """Captures a function of tensors: `CudaCapture`, or in tests a stand-in for the CPU."""

    def __call__(self, function: Callable[..., Sequence[Tensor]], memory: Sequence[Any]) -> Replay:
        """Run the function at most `WARM_UPS` times, capture it, and return what replays it.

        Args:
            function: takes `memory`, and may write into it. What it returns lies at a fixed place,
                where the next replay overwrites it.
            memory: tensors and nested tuples of tensors that stay where they are.
        """
        ...

    def fresh(self) -> Capture:
        """Return one that shares no memory with this one."""
        ...


class CudaCapture:
    """Captures CUDA graphs, all in one pool of memory: one must not be replayed beside another.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        # A pool whose last graph is gone cannot be used again, so the first graph stays.
        self._first: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[..., Sequence[Tensor]], memory: Sequence[Any]) -> Replay:
        """Warm up on a side stream, as PyTorch asks for, and capture."""
        with torch.cuda.device(self._device):
            before = torch.cuda.current_stream()
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(before)
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    function(*memory)
            before.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            try:
                # Threads that give signs of life to other processes may go on meanwhile.
                with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                    outputs = function(*memory)
            except BaseException:
                # PyTorch stays on the stream of a capture that failed.
                torch.cuda.set_stream(before)
                torch.cuda.synchronize()
                raise
        self._first = self._first or graph

        def replay() -> Sequence[Tensor]:
            graph.replay()
            return outputs

        return replay

    def fresh(self) -> CudaCapture:
        """Return one with a pool of its own."""
        return CudaCapture(self._device)


class Graphs:
    """Captured functions, shared by all networks of one structure.

    Args:
        capture: captures what is new.

    Attributes:
        capture: as given.
        loops: captured inner loops (`LoopGraphs`), by what they are for.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.loops: dict[Hashable, Any] = {}
        self._captured = defaultdict[Hashable, dict[Hashable, Captured]](dict)

    def emptied(self) -> Graphs:
        """Return graphs like these that hold nothing yet."""
        return Graphs(self.capture.fresh())

    def call(
        self, name: Hashable, function: Callable[..., Sequence[Tensor]], *arguments: Tensor
    ) -> Sequence[Tensor]:
        """Return what a function of tensors returns, by a graph where there is room for one.

        A graph is for shapes, types and arithmetic. Beyond `MOST_SHAPES` of a name the function is
        called as it is: each of so many shapes comes too seldom to be worth its memory.

        Args:
            name: of the function; equal names must compute the same.
            function: does not keep its arguments or change them.
            *arguments: tensors; no gradient passes.
        """
        known = self._captured[name]
        key = (tuple((each.shape, each.dtype) for each in arguments), arithmetic())
        if key not in known:
            if len(known) >= MOST_SHAPES:
                return function(*arguments)
            places = tuple(each.detach().clone() for each in arguments)
            known[key] = places, self.capture(function, places)
        memory, replay = known[key]
        for place, argument in zip(memory, arguments, strict=True):
            place.copy_(argument)
        return [output.clone() for output in replay()]


def arithmetic() -> Hashable:
    """Return the settings of the process that decide which kernels a graph holds."""
    backends = torch.backends
    return (
        backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        backends.cuda.matmul.fp32_precision,
        backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    )
