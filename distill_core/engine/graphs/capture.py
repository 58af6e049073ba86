"""CUDA graphs: operations that are captured once and replayed.

An inner step is about a hundred small kernels. Launched one by one, they keep a fast card waiting
for the processor; a graph launches all of them at once. Captured code must read and write memory
that stays in place, run the same operations every time, never wait for the device, and draw no
random numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

WARM_UPS = 3  # runs before a capture, in which libraries set up what they need
MOST_SHAPES = 8

Replay = Callable[[], Sequence[Tensor]]
Captured = tuple[Sequence[Tensor], Replay]  # where the arguments lie, and the replay


class Capture(Protocol):
    """Captures a function of tensors: `CudaCapture`, or in tests a stand-in for the CPU."""

    def __call__(self, function: Callable[..., Sequence[Tensor]], memory: Sequence[Any]) -> Replay:
        """Run the function at most `WARM_UPS` times, capture it, and return its replay.

        Args:
            function: takes `memory`, and may write into it. Its results lie at a fixed place, where
                the next replay overwrites them.
            memory: tensors and nested tuples of tensors that stay where they are.
        """
        ...

    def fresh(self) -> Capture:
        """Return a capture that shares no memory with this one."""
        ...


class CudaCapture:
    """Captures CUDA graphs, all in one memory pool: no two may be replayed at the same time.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        # A pool cannot be used again after its last graph is gone, so the first graph stays.
        self._first: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[..., Sequence[Tensor]], memory: Sequence[Any]) -> Replay:
        """Warm up on a side stream, as PyTorch requires, and capture."""
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
                # Heartbeat threads of other ranks may keep running meanwhile.
                with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                    outputs = function(*memory)
            except BaseException:
                # After a failed capture PyTorch stays on its stream.
                torch.cuda.set_stream(before)
                torch.cuda.synchronize()
                raise
        self._first = self._first or graph

        def replay() -> Sequence[Tensor]:
            graph.replay()
            return outputs

        return replay

    def fresh(self) -> CudaCapture:
        """Return a capture with its own pool."""
        return CudaCapture(self._device)


class Graphs:
    """Captured functions, shared by all networks of one structure.

    Args:
        capture: captures functions that are not captured yet.

    Attributes:
        capture: as given.
        loops: captured inner loops (`LoopGraphs`), by kind.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.loops: dict[Hashable, Any] = {}
        self._captured = defaultdict[Hashable, dict[Hashable, Captured]](dict)

    def emptied(self) -> Graphs:
        """Return graphs of the same kind of capture, with nothing captured yet."""
        return Graphs(self.capture.fresh())

    def call(
        self, name: Hashable, function: Callable[..., Sequence[Tensor]], *arguments: Tensor
    ) -> Sequence[Tensor]:
        """Call a function of tensors, by a graph if there is room for one.

        There is one graph for each combination of shapes, dtypes and arithmetic. After
        `MOST_SHAPES` for one name, the function is called directly: with so many shapes, each is
        too rare to be worth its memory.

        Args:
            name: of the function; equal names must compute the same.
            function: neither keeps nor changes its arguments.
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
