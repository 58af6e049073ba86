"""An inner loop whose steps, forward and backward, are CUDA graphs.

One graph holds a whole step: it looks up the step's images, augments them, computes their gradient
or its product with a vector, and updates the optimizer or its adjoint. What differs from step to
step (which images, the draws of the augmentation, the learning rate) is uploaded once for the whole
loop, as tables; a counter on the device picks the row. So the processor only launches one graph per
step, and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distill_core.contracts.data import as_float32
from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.synthetic import Batch
from distill_core.contracts.transfer import to_device
from distill_core.data.augment import MOST_VALUES, Augmentation, Draw
from distill_core.engine.drawn_steps import DrawnSteps
from distill_core.engine.graphs.capture import WARM_UPS, Capture, Replay, arithmetic
from distill_core.engine.optimizers import Adjoint, InnerOptimizer

LEAST_ROWS = 2 * WARM_UPS + 2  # warm-up runs before a capture stay within the tables


class Case(NamedTuple):
    """A kind of step, for which one graph is captured.

    Attributes:
        operation: of the augmentation.
        size: images of the step.
        values: parameters of the augmentation for each image.
        kept: the step is differentiated: what it starts from is kept, or it goes backward.
    """

    operation: str
    size: int
    values: int
    kept: bool

    @staticmethod
    def of(draw: Draw, *, kept: bool) -> Case:
        """Return the case of a step with this draw."""
        size, values = draw.values.shape
        return Case(draw.operation, size, values, kept)


class Memory(NamedTuple):
    """All tensors that the graphs of a loop read and write; they stay in place.

    Letters: T steps, W steps in the window, m items, n images of a step, P parameters.

    Attributes:
        theta: (P,) the network's current parameters.
        state: the optimizer's current state, field by field.
        row: (1,) int64, the current step.
        start: (1,) int64, the first step of the window.
        chosen: (T, n) int64, the items of each step.
        values: (T, n, p) of the augmentation.
        rates: (T,) float64, learning rates.
        items: images and labels.
        kept: (W, ...) of every step in the window: parameters before it, gradient, state after it.
        adjoint: current dL/d parameters and dL/d state.
        found: dL/d images and labels of the items, and (T,) dL/d rates.
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
        like: drawn steps, for their shapes.
        steps: most steps of a loop.
        window: most differentiated steps of a loop; 0 if none ever is.
        in_place: read the items of `like` where they are, in this loop and all later ones.
    """

    def __init__(
        self,
        loss: InnerLoss,
        optimizer: InnerOptimizer,
        capture: Capture,
        like: DrawnSteps,
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
        """Say whether a loop of these lengths fits."""
        return steps <= self.rows and window <= self.window

    @torch.no_grad()
    def begin(
        self, theta: Tensor, drawn: DrawnSteps, *, warm_up: int, rates: Tensor | None
    ) -> None:
        """Load what a loop starts from, and capture the kinds of step that are still missing.

        Args:
            theta: (P,).
            drawn: all steps of the loop.
            warm_up: steps before the window.
            rates: learned rates, one number or one per step; None for the optimizer's own.
        """
        self.runs += 1
        cases = [
            (kind, Case.of(draw, kept=kept))
            for kind, kept, draws in (
                ("forward", False, drawn.draws[:warm_up]),
                ("forward", True, drawn.draws[warm_up:]),
                ("backward", True, drawn.draws[warm_up:]),
            )
            for draw in draws
        ]
        self._arithmetic = arithmetic()
        for kind, case in sorted(set(cases)):
            self._capture_step(kind, case)
        memory, steps = self.memory, len(drawn.chosen)
        memory.theta.copy_(theta)
        for place, value in zip(memory.state, self.optimizer.init(theta), strict=True):
            _put(place, value)
        memory.row.zero_()
        memory.start.fill_(warm_up)
        index, values = drawn.tables()
        memory.chosen[:steps].copy_(to_device(index, theta.device))
        memory.values[:steps].copy_(to_device(values, theta.device))
        rate = self.optimizer.lr if rates is None else to_device(rates.detach(), theta.device)
        _put(memory.rates[:steps], rate)
        if not self._in_place:
            for place, item in zip(memory.items, drawn.items, strict=True):
                place.copy_(item.detach())

    def forward(self, draw: Draw, *, kept: bool) -> None:
        """Run the next step."""
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
            # Warm-up runs move some rows up or down; what they write is overwritten later.
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
            # No item occurs twice in a batch, so the order of additions does not matter.
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
        """The index of a step and its augmented batch; append the plain images to `leaf`."""
        index = memory.chosen.index_select(0, memory.row)[0, : case.size]
        values = memory.values.index_select(0, memory.row)[0, : case.size, : case.values]
        images, labels = (part.index_select(0, index) for part in memory.items)
        images = as_float32(images)
        if leaf is not None:
            leaf.append(images.requires_grad_())
        return index, Batch(Augmentation.apply(images, Draw(case.operation, values)), labels)

    @torch.no_grad()
    def _make(self, like: DrawnSteps) -> tuple[Callable[..., Any], Memory]:
        theta = self.loss.model.theta
        images, labels = items = [part.detach() for part in like.items]
        state = self.optimizer.init(theta)
        # Counters become float64 scalars on the device, so that powers of decays are exact.
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
