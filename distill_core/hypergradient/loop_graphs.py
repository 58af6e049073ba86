"""An inner loop whose steps, there and back, are CUDA graphs.

One graph holds a whole step: it looks its images up, augments them, takes their gradient or its
product with a vector, and moves the optimizer or its adjoint. What differs from step to step (which
images, the draws of the augmentation, the learning rate) is uploaded once for the whole loop, as
tables from which a counter on the device picks a row. So the processor only launches a graph for
each step, and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distill_core.augment import MOST_VALUES, Augmentation, Draw
from distill_core.data import full_precision
from distill_core.hypergradient.graphs import WARM_UPS, Capture, Replay, arithmetic
from distill_core.hypergradient.inner_loss import InnerLoss
from distill_core.hypergradient.optimizers import Adjoint, InnerOptimizer
from distill_core.hypergradient.plan import Plan
from distill_core.synthetic import Batch
from distill_core.transfer import to_device

LEAST_ROWS = 2 * WARM_UPS + 2  # so that runs before a capture stay within the tables


class Case(NamedTuple):
    """What a graph is captured for: a kind of step.

    Attributes:
        operation: of the augmentation.
        size: images of the step.
        values: parameters of the augmentation for each image.
        kept: the step is differentiated, so what it starts from is kept; or it goes back.
    """

    operation: str
    size: int
    values: int
    kept: bool

    @staticmethod
    def of(draw: Draw, *, kept: bool) -> Case:
        """Return the case of a step with such a draw."""
        size, values = draw.values.shape
        return Case(draw.operation, size, values, kept)


class Memory(NamedTuple):
    """All that the graphs of a loop read and write; it stays in place.

    Letters: T steps, W steps in the window, m items, n images of a step, P parameters.

    Attributes:
        theta: (P,) the network's parameters, now.
        state: the optimizer's, field by field.
        row: (1,) int64, the step, now.
        start: (1,) int64, the first step of the window.
        chosen: (T, n) int64, the items of each step.
        values: (T, n, p) of the augmentation.
        rates: (T,) float64, learning rates.
        items: images and labels.
        kept: (W, ...) of every step in the window: parameters before it, gradient, state after it.
        adjoint: dL/d parameters and state, now.
        found: dL/d images and labels of the items, and (T,) rates.
    """

    theta: Tensor
    state: tuple[Tensor, ...]
    row: Tensor
    start: Tensor
    chosen: Tensor
    values: Tensor
    rates: Tensor
    items: Batch
    kept: tuple[Tensor, ...]
    adjoint: tuple[Tensor, ...]
    found: tuple[Tensor, Tensor, Tensor]


class LoopGraphs:
    """The memory and the graphs of inner loops of one kind.

    Args:
        loss: of any network of the structure.
        optimizer: the inner optimizer.
        capture: captures steps.
        like: a plan, for shapes.
        steps: most steps of a loop.
        window: most of them that are differentiated; 0 where none ever is.
        in_place: read the items of `like` where they are, in this loop and all later ones.
    """

    def __init__(
        self,
        loss: InnerLoss,
        optimizer: InnerOptimizer,
        capture: Capture,
        like: Plan,
        *,
        steps: int,
        window: int,
        in_place: bool = False,
    ) -> None:
        self.loss = loss
        self.optimizer = optimizer
        self.rows = max(steps, LEAST_ROWS)
        self.window = max(window, LEAST_ROWS) if window else 0
        self.runs = 0
        self._capture = capture
        self._graphs: dict[tuple[str, Case, Any], Replay] = {}
        self._arithmetic = arithmetic()
        self._in_place = in_place
        self._kind, self.memory = self._make(like)

    def covers(self, steps: int, window: int) -> bool:
        """Say whether there is room for a loop."""
        return steps <= self.rows and window <= self.window

    @torch.no_grad()
    def begin(self, theta: Tensor, plan: Plan, *, warm_up: int, rates: Tensor | None) -> None:
        """Load what a loop starts from, and capture what it needs that is not captured yet.

        Args:
            theta: (P,).
            plan: as many steps as the loop has.
            warm_up: steps before the window.
            rates: learned rates, one or one for each step; None for the optimizer's own.
        """
        self.runs += 1
        cases = [
            (kind, Case.of(draw, kept=kept))
            for kind, kept, draws in (
                ("forward", False, plan.draws[:warm_up]),
                ("forward", True, plan.draws[warm_up:]),
                ("backward", True, plan.draws[warm_up:]),
            )
            for draw in draws
        ]
        self._arithmetic = arithmetic()
        for kind, case in sorted(set(cases)):
            self._capture_step(kind, case)
        memory, steps = self.memory, len(plan.chosen)
        memory.theta.copy_(theta)
        for place, value in zip(memory.state, self.optimizer.init(theta), strict=True):
            _put(place, value)
        memory.row.zero_()
        memory.start.fill_(warm_up)
        index, values = plan.tables()
        memory.chosen[:steps].copy_(to_device(index, theta.device))
        memory.values[:steps].copy_(to_device(values, theta.device))
        rate = self.optimizer.lr if rates is None else to_device(rates.detach(), theta.device)
        _put(memory.rates[:steps], rate)
        if not self._in_place:
            for place, item in zip(memory.items, plan.items, strict=True):
                place.copy_(item.detach())

    def forward(self, draw: Draw, *, kept: bool) -> None:
        """Do the next step."""
        self._graphs["forward", Case.of(draw, kept=kept), self._arithmetic]()

    @torch.no_grad()
    def begin_backward(self, cotangent: Tensor) -> None:
        """Load dL/d theta (P,) at the end of the loop."""
        adjoint = self.optimizer.end(cotangent)
        for place, value in zip(self.memory.adjoint, (adjoint.theta, *adjoint.state), strict=True):
            place.copy_(value)
        for place in self.memory.found:
            place.zero_()

    def backward(self, draw: Draw) -> None:
        """Go back one step of the window."""
        self._graphs["backward", Case.of(draw, kept=True), self._arithmetic]()

    def _capture_step(self, kind: str, case: Case) -> None:
        key = (kind, case, self._arithmetic)
        if key not in self._graphs:
            # Runs before the capture go some rows up or down, and what they write is overwritten.
            self.memory.row.fill_(WARM_UPS + 1)
            self.memory.start.zero_()
            does = self._forward if kind == "forward" else self._backward
            self._graphs[key] = self._capture(partial(does, case), self.memory)

    def _forward(self, case: Case, *parts: Any) -> Sequence[Tensor]:
        memory = Memory(*parts)
        with torch.no_grad():
            _, batch = self._batch(case, memory)
            found = self.loss.evaluate(memory.theta, batch)
            rate = memory.rates.index_select(0, memory.row)[0]
            state = self._kind(*memory.state)
            moved, after = self.optimizer.update(memory.theta, found.gradient, state, rate)
            if case.kept:
                place = memory.row - memory.start
                kept = (memory.theta, found.gradient, *after)
                for store, value in zip(memory.kept, kept, strict=True):
                    store.index_copy_(0, place, value[None])
            memory.theta.copy_(moved)
            for at, value in zip(memory.state, after, strict=True):
                at.copy_(value)
            memory.row.add_(1)
        return ()

    def _backward(self, case: Case, *parts: Any) -> Sequence[Tensor]:
        memory = Memory(*parts)
        memory.row.sub_(1)
        place = memory.row - memory.start
        theta, gradient, *state = (store.index_select(0, place)[0] for store in memory.kept)
        rate = memory.rates.index_select(0, memory.row)[0]
        after = Adjoint(memory.adjoint[0], memory.adjoint[1:])
        back = self.optimizer.adjoint(theta, gradient, self._kind(*state), after, rate)
        with torch.enable_grad():
            leaf = list[Tensor]()
            index, batch = self._batch(case, memory, leaf)
        product = self.loss.product(
            theta, Batch(batch.images.detach(), batch.labels), back.gradient
        )
        (images,) = torch.autograd.grad(batch.images, leaf, product.images)
        with torch.no_grad():
            # No item comes twice in a batch, so the order of additions is no question.
            memory.found[0].index_add_(0, index, images)
            memory.found[1].index_add_(0, index, product.labels)
            memory.found[2].index_copy_(0, memory.row, back.rate.reshape(1).to(memory.found[2]))
            memory.adjoint[0].copy_(back.adjoint.theta + product.theta)
            for at, value in zip(memory.adjoint[1:], back.adjoint.state, strict=True):
                at.copy_(value)
        return ()

    @staticmethod
    def _batch(
        case: Case, memory: Memory, leaf: list[Tensor] | None = None
    ) -> tuple[Tensor, Batch]:
        """The index of a step and its augmented batch; the plain images are added to `leaf`."""
        index = memory.chosen.index_select(0, memory.row)[0, : case.size]
        values = memory.values.index_select(0, memory.row)[0, : case.size, : case.values]
        images, labels = (part.index_select(0, index) for part in memory.items)
        images = full_precision(images)
        if leaf is not None:
            leaf.append(images.requires_grad_())
        return index, Batch(Augmentation.apply(images, Draw(case.operation, values)), labels)

    @torch.no_grad()
    def _make(self, like: Plan) -> tuple[Callable[..., Any], Memory]:
        theta = self.loss.model.theta
        images, labels = items = [part.detach() for part in like.items]
        state = self.optimizer.init(theta)
        # Counters become numbers on the device, of a type in which powers of decays are exact.
        fields = tuple(
            torch.zeros_like(field)
            if isinstance(field, Tensor)
            else theta.new_zeros((), dtype=torch.float64)
            for field in state
        )
        vectors = tuple(field for field in fields if field.ndim)
        size = max(len(index) for index in like.chosen)
        number = images.dtype if images.dtype != torch.float16 else torch.float32
        return type(state), Memory(
            theta=torch.zeros_like(theta),
            state=fields,
            row=theta.new_zeros(1, dtype=torch.int64),
            start=theta.new_zeros(1, dtype=torch.int64),
            chosen=theta.new_zeros((self.rows, size), dtype=torch.int64),
            values=theta.new_zeros((self.rows, size, MOST_VALUES), dtype=number),
            rates=theta.new_zeros(self.rows, dtype=torch.float64),
            items=Batch(*(each if self._in_place else torch.zeros_like(each) for each in items)),
            kept=tuple(
                each.new_zeros((self.window, *each.shape)) for each in (theta, theta, *fields)
            ),
            adjoint=tuple(torch.zeros_like(each) for each in (theta, *vectors)),
            found=(
                images.new_zeros(images.shape if self.window else 0, dtype=number),
                torch.zeros_like(labels),
                theta.new_zeros(self.rows, dtype=torch.float64),
            ),
        )


def _put(place: Tensor, value: Tensor | float) -> None:
    if isinstance(value, Tensor):
        place.copy_(value)
    else:
        place.fill_(value)
