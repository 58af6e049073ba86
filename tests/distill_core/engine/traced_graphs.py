"""A stand-in for CUDA graphs on the CPU: operations traced once and run again.

As with CUDA graphs, what is not an operation on tensors happens at the capture alone: Python's
branches, numbers that are read on the host (refused by the tracer), and tensors that are made from
host data are those of the capture for ever. Results lie at fixed places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from distill_core.engine.graphs.capture import WARM_UPS


class Traced:
    """Captures by `make_fx`.

    Attributes:
        captures: how many there were.
        replays: likewise.
        operations: of each capture, how many the traced graph has.
    """

    def __init__(self) -> None:
        self.captures = 0
        self.replays = 0
        self.operations: list[int] = []

    def __call__(
        self, function: Callable[..., Sequence[Tensor]], memory: Sequence[Any]
    ) -> Callable[[], Sequence[Tensor]]:
        self.captures += 1
        for _ in range(WARM_UPS):
            outputs = function(*memory)
        places = [output.clone() for output in outputs]
        traced = make_fx(lambda *parts: tuple(function(*parts)))(*memory)
        nodes = [node for node in traced.graph.nodes if node.op == "call_function"]
        constants = [node for node in traced.graph.nodes if node.op == "get_attr"]
        if constants:
            raise RuntimeError(f"tensors of the capture would be used for ever: {constants}")
        self.operations.append(len(nodes))

        def replay() -> Sequence[Tensor]:
            self.replays += 1
            for place, found in zip(places, traced(*memory), strict=True):
                place.copy_(found)
            return places

        return replay

    def fresh(self) -> Traced:
        return self
