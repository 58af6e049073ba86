"""`unroll` by CUDA graphs of whole steps: the same training, and the same backward sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distill_core.engine.drawn_steps import DrawnSteps
from distill_core.engine.graphs.loop import LoopGraphs
from distill_core.engine.graphs.loss import GraphedLoss
from distill_core.engine.optimizers import InnerOptimizer


@dataclass
class GraphUnrolled:
    """The end of a training by graphs; see `Unrolled`.

    What is kept of its steps lies in the memory of the graphs: go back before the next training of
    the same kind starts.

    Attributes:
        theta: (P,) the final parameters, without an autograd graph.
    """

    theta: Tensor
    _loop: LoopGraphs
    _drawn: DrawnSteps
    _lengths: tuple[int, int]
    _rates: Tensor | None
    _flush: Callable[[], None]
    _run: int

    def backward(self, cotangent: Tensor) -> Tensor:
        """Go back through the window, and add gradients to items and learned rates.

        Raises:
            RuntimeError: another training of the same kind has overwritten this one.
        """
        if self._loop.runs != self._run:
            raise RuntimeError(
                "this training was overwritten by a later one of the same kind: go back before "
                "the next one starts, or run with engine.graphs=none"
            )
        loop, (warm_up, _) = self._loop, self._lengths
        loop.begin_backward(cotangent)
        for draw in reversed(self._drawn.draws[warm_up:]):
            loop.backward(draw)
        loop.runs += 1  # can be called once
        images, labels, rates = loop.memory.found
        for item, found in zip(self._drawn.items, (images, labels), strict=True):
            if item.requires_grad:
                more = found.to(item)
                item.grad = more.clone() if item.grad is None else item.grad + more
        self._flush()
        if self._rates is not None and self._rates.requires_grad:
            each = rates[: len(self._drawn.chosen)].to(self._rates)
            torch.autograd.backward(self._rates, each.clone() if self._rates.ndim else each.sum())
        return loop.memory.adjoint[0].clone()

    def bytes_per_step(self) -> int:
        """Bytes kept per differentiated step; 0 if the window is empty."""
        if not self._lengths[1]:
            return 0
        return sum(store[0].nbytes for store in self._loop.memory.kept)

    def retained_bytes(self) -> int:
        """Return 0: activations are not retained."""
        return 0


def unroll_by_graphs(
    loss: GraphedLoss,
    optimizer: InnerOptimizer,
    theta: Tensor,
    drawn: DrawnSteps,
    *,
    lengths: tuple[int, int],
    rates: Tensor | None,
    flush: Callable[[], None],
) -> GraphUnrolled:
    """Train from theta as `unroll` does.

    Args:
        loss: the network and its derivatives, with the graphs of all networks of its structure.
        optimizer: the inner optimizer.
        theta: (P,) initial parameters.
        drawn: what the steps train on.
        lengths: steps before the window, and in it.
        rates: learned learning rates, as for `unroll`.
        flush: passes on the gradients that the items have accumulated.
    """
    warm_up, window = lengths
    loop = _loop_for(loss, optimizer, drawn, window=window)
    loop.begin(theta, drawn, warm_up=warm_up, rates=rates)
    for step, draw in enumerate(drawn.draws):
        loop.forward(draw, kept=step >= warm_up)
    return GraphUnrolled(loop.memory.theta.clone(), loop, drawn, lengths, rates, flush, loop.runs)


def _loop_for(
    loss: GraphedLoss, optimizer: InnerOptimizer, drawn: DrawnSteps, *, window: int
) -> LoopGraphs:
    """The graphs for loops of this kind, made larger if a loop is longer than all before."""
    shapes = tuple((item.shape, item.dtype) for item in drawn.items)
    theta, steps = loss.model.theta, len(drawn.chosen)
    size = max(len(index) for index in drawn.chosen)
    key = (loss.kind, optimizer, theta.shape, theta.dtype, shapes, size)
    found: LoopGraphs | None = loss.graphs.loops.get(key)
    if found is None or not found.covers(steps, window):
        if found is not None:
            # Twice as long, so that growing loops are not captured again at every outer step.
            steps, window = max(steps, 2 * found.rows), max(window, found.window)
            del loss.graphs.loops[key]
        found = None  # its memory is free before more is taken
        found = LoopGraphs(
            loss.plain, optimizer, loss.graphs.capture, drawn, steps=steps, window=window
        )
        loss.graphs.loops[key] = found
    return found
