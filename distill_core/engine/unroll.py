"""Train on given batches, and differentiate the final parameters in those batches.

No graph reaches from one step to the next. Each differentiated step keeps its parameters, its
gradient and the optimizer's state, all flat vectors. On the way back, each step's batch is made
again, and one product of the Hessian with a vector gives the step's share (reverse-mode
differentiation of training: Maclaurin et al. 2015; Deng and Russakovsky 2022, as an adjoint sweep).
Memory grows by a few vectors (P,) per step, whatever the network and the batch. In addition, the
activations of the first steps are retained up to a fixed amount, so that they need not be computed
again. If steps can be captured as CUDA graphs, `graphs/unroll.py` does the same with graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from distill_core.contracts.derivatives import InnerLoss, Retained
from distill_core.contracts.synthetic import Batch
from distill_core.engine.graphs.loss import GraphedLoss
from distill_core.engine.graphs.unroll import unroll_by_graphs
from distill_core.engine.inner_batches import InnerBatches
from distill_core.engine.optimizers import InnerOptimizer, Rate


class Batches(Protocol):
    """The batches of an inner loop, as `InnerBatches`."""

    def __call__(self, step: int) -> Batch:
        """Return the augmented batch of step t = 0, 1, ...

        The same step always returns the same batch, differentiable if gradients are enabled.
        """
        ...

    def flush(self) -> None:
        """Pass accumulated gradients on to the parameters; called after the last step."""
        ...


class Step(NamedTuple):
    """What is kept of a differentiated step.

    Attributes:
        theta: (P,) parameters before the step.
        gradient: (P,) at these parameters.
        state: the optimizer's state after the step.
        retained: the step's activations, or None.
    """

    theta: Tensor
    gradient: Tensor
    state: Any
    retained: Retained | None


class Unrolled(Protocol):
    """The end of an unrolled training.

    Attributes:
        theta: (P,) the final parameters, without a graph.
    """

    theta: Tensor

    def backward(self, cotangent: Tensor) -> Tensor:
        """Add the gradient of <theta, cotangent> to `.grad` of everything the window depends on.

        That is what its batches were made from, and the learned rates. Can be called once; it
        frees what was kept of the steps.

        Args:
            cotangent: (P,), the gradient of the outer loss in the final parameters.

        Returns:
            (P,) the gradient in the parameters at the beginning of the window.

        Raises:
            InputError: the network has an operation without a second derivative.
        """
        ...

    def bytes_per_step(self) -> int:
        """Bytes kept per differentiated step, without activations; 0 if the window is empty."""
        ...

    def retained_bytes(self) -> int:
        """Bytes of the retained activations."""
        ...


@dataclass
class Swept(Unrolled):
    """A training whose steps were launched operation by operation; see `Unrolled`."""

    theta: Tensor
    _loss: InnerLoss
    _optimizer: InnerOptimizer
    _batches: Batches
    _rates: Tensor | None
    _first: int
    _steps: list[Step] = field(default_factory=list)

    def backward(self, cotangent: Tensor) -> Tensor:
        """Go back through the window, step by step."""
        adjoint = self._optimizer.end(cotangent)
        rates = []
        while self._steps:
            kept = self._steps.pop()
            step = self._first + len(self._steps)
            rate = rate_of(self._optimizer, self._rates, step)
            back = self._optimizer.adjoint(kept.theta, kept.gradient, kept.state, adjoint, rate)
            with torch.enable_grad():
                batch = self._batches(step)
            product = self._loss.product(kept.theta, batch, back.gradient, kept.retained)
            send(batch, Batch(product.images, product.labels))
            adjoint = back.adjoint._replace(theta=back.adjoint.theta + product.theta)
            rates.append((step, back.rate))
        self._batches.flush()
        self._learn(rates)
        return adjoint.theta

    def bytes_per_step(self) -> int:
        """Bytes kept per differentiated step."""
        if not self._steps:
            return 0
        kept = self._steps[-1]
        tensors = (kept.theta, kept.gradient, *self._optimizer.saved(kept.state))
        return sum(tensor.nbytes for tensor in tensors)

    def retained_bytes(self) -> int:
        """Bytes of the retained activations."""
        return sum(step.retained.nbytes for step in self._steps if step.retained)

    def _learn(self, rates: list[tuple[int, Tensor]]) -> None:
        """Add dL/d rates; a single rate gets the sum over all steps."""
        if self._rates is None or not self._rates.requires_grad or not rates:
            return
        grad = torch.zeros_like(self._rates)
        for step, share in rates:
            grad[step if grad.ndim else ...] += share
        torch.autograd.backward(self._rates, grad)


def unroll(
    loss: InnerLoss,
    optimizer: InnerOptimizer,
    theta: Tensor,
    batches: Batches,
    *,
    warm_up: int,
    window: int,
    rates: Tensor | None = None,
) -> Unrolled:
    """Train from theta on given batches, and keep what is needed to differentiate the last steps.

    The optimizer's moments and step counter continue from the warm-up into the window, where they
    enter as constants.

    Args:
        loss: the network and its derivatives.
        optimizer: the inner optimizer, from its initial state.
        theta: (P,) initial parameters; a constant.
        batches: the batch of every step; called once forward, and once more on the way back.
        warm_up: steps that are not differentiated.
        window: the steps after them, which `Unrolled.backward` differentiates.
        rates: learned learning rates, one number, or one for each of the warm_up + window steps;
            carries a gradient. None: the optimizer's own.
    """
    theta = theta.detach()
    if isinstance(loss, GraphedLoss) and isinstance(batches, InnerBatches):
        drawn = batches.drawn_steps()
        if drawn is not None:
            return unroll_by_graphs(
                loss,
                optimizer,
                theta,
                drawn,
                lengths=(warm_up, window),
                rates=rates,
                flush=batches.flush,
            )
    state = optimizer.init(theta)
    steps: list[Step] = []
    room = loss.activation_cache
    with torch.no_grad():
        for step in range(warm_up + window):
            differentiated = step >= warm_up
            found = loss.evaluate(theta, batches(step), retain=differentiated and room > 0)
            rate = rate_of(optimizer, rates, step)
            moved, state = optimizer.update(theta, found.gradient, state, rate)
            if differentiated:
                fits = found.retained is not None and found.retained.nbytes <= room
                retained = found.retained if fits else None
                room = room - retained.nbytes if retained else 0
                steps.append(Step(theta, found.gradient, state, retained))
            theta = moved
    return Swept(theta, loss, optimizer, batches, rates, warm_up, steps)


def send(batch: Batch, cotangents: Batch) -> None:
    """Pass the gradients of a batch's images and labels on to what they were made from."""
    learned = [i for i, made in enumerate(batch) if made.requires_grad]
    if learned:
        torch.autograd.backward([batch[i] for i in learned], [cotangents[i] for i in learned])


def rate_of(optimizer: InnerOptimizer, rates: Tensor | None, step: int) -> Rate:
    """Return the learning rate of a step, without a graph."""
    if rates is None:
        return optimizer.lr
    return rates.detach()[step] if rates.ndim else rates.detach()
