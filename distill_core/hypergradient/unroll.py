"""Training on given batches, and the gradient of what came out of it in those batches.

No graph reaches from a step to the next. Of every differentiated step remain the parameters, the
gradient and the optimizer's state, flat vectors; going back, each step's batch is made again, and
one product of the Hessian with a vector gives the step's share (reverse-mode differentiation of
training: Maclaurin et al. 2015; Deng and Russakovsky 2022, as an adjoint sweep). Memory grows by a
few vectors (P,) a step, whatever the network and the batch; beyond that, activations of the first
steps are retained up to a fixed amount, so that the way back need not compute them again. Where
steps can be captured as CUDA graphs, `graph_unroll.py` does the same by those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from distill_core.hypergradient.batches import InnerBatches
from distill_core.hypergradient.graph_unroll import unroll_by_graphs
from distill_core.hypergradient.graphed_loss import GraphedLoss
from distill_core.hypergradient.inner_loss import InnerLoss, Retained
from distill_core.hypergradient.optimizers import InnerOptimizer, Rate
from distill_core.synthetic import Batch


class Batches(Protocol):
    """The batches of an inner loop, as `InnerBatches`."""

    def __call__(self, step: int) -> Batch:
        """Return the batch of step t = 0, 1, ..., always the same; differentiable where gradients
        are on. Augmentation is its business."""
        ...

    def flush(self) -> None:
        """Pass gradients on that were collected on the way to the parameters, after the last."""
        ...


class Step(NamedTuple):
    """What is kept of a differentiated step.

    Attributes:
        theta: (P,) parameters before it.
        gradient: (P,) there.
        state: of the optimizer after it.
        retained: its activations, or None.
    """

    theta: Tensor
    gradient: Tensor
    state: Any
    retained: Retained | None


class Unrolled(Protocol):
    """The end of an unrolled training.

    Attributes:
        theta: (P,) the final parameters; no graph.
    """

    theta: Tensor

    def backward(self, cotangent: Tensor) -> Tensor:
        """Add the gradient of <theta, cotangent> to `.grad` of all that the window depends on.

        That is what its batches were made from, and the learned rates. Can be called once; what
        was kept of the steps is freed on the way.

        Args:
            cotangent: (P,), the gradient of the outer loss in the final parameters.

        Returns:
            (P,) the gradient in the parameters at the beginning of the window.

        Raises:
            InputError: the network has an operation without a second derivative.
        """
        ...

    def bytes_per_step(self) -> int:
        """Bytes that a differentiated step leaves behind, without activations; 0 where the window
        is empty."""
        ...

    def retained_bytes(self) -> int:
        """Bytes of the activations that are retained."""
        ...


@dataclass
class Swept(Unrolled):
    """A training whose steps are launched operation by operation; `Unrolled` has the rest."""

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
        """Bytes that a differentiated step leaves behind."""
        if not self._steps:
            return 0
        kept = self._steps[-1]
        tensors = (kept.theta, kept.gradient, *self._optimizer.saved(kept.state))
        return sum(tensor.nbytes for tensor in tensors)

    def retained_bytes(self) -> int:
        """Bytes of the activations that are retained."""
        return sum(step.retained.nbytes for step in self._steps if step.retained)

    def _learn(self, rates: list[tuple[int, Tensor]]) -> None:
        """Add dL/d rates; a single rate takes the sum over all steps."""
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

    The optimizer's moments and its step counter go on from the warm-up into the window, where
    they enter as constants.

    Args:
        loss: the network and its derivatives.
        optimizer: the inner optimizer; it starts afresh.
        theta: (P,) initial parameters; a constant.
        batches: the batch of every step; asked for once on the way, and once more going back.
        warm_up: steps that are not differentiated.
        window: steps after those, which `Unrolled.backward` differentiates.
        rates: learned learning rates, one number, or one for each of the warm_up + window steps;
            carries a gradient. None: the optimizer's own.
    """
    theta = theta.detach()
    if isinstance(loss, GraphedLoss) and isinstance(batches, InnerBatches):
        plan = batches.plan()
        if plan is not None:
            return unroll_by_graphs(
                loss,
                optimizer,
                theta,
                plan,
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
    """Pass gradients in a batch's images and labels on to what it was made from."""
    learned = [i for i, made in enumerate(batch) if made.requires_grad]
    if learned:
        torch.autograd.backward([batch[i] for i in learned], [cotangents[i] for i in learned])


def rate_of(optimizer: InnerOptimizer, rates: Tensor | None, step: int) -> Rate:
    """Return the learning rate of a step, without graph."""
    if rates is None:
        return optimizer.lr
    return rates.detach()[step] if rates.ndim else rates.detach()
