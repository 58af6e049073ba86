"""The inner loop: optimizers as pure functions on flat vectors, and training that keeps its graph.

An optimizer is two functions and an explicit state: `init(theta)` and `update(theta, grad,
state)`. Both are differentiable in every tensor and change nothing in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from distill_core.functional import FlatModel
from distill_core.losses import soft_cross_entropy
from distill_core.synthetic import Batch
from registry import InputError


class InnerOptimizer(Protocol):
    """What the inner loop asks of an optimizer; the state is a tuple that only it reads."""

    def init(self, theta: Tensor) -> Any:
        """Return the state before the first step, for parameters theta (P,)."""
        ...

    def update(self, theta: Tensor, grad: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the parameters (P,) and the state after one step along grad (P,)."""
        ...


class AdamState(NamedTuple):
    """First and second moments (P,), and the number of steps taken."""

    first: Tensor
    second: Tensor
    step: int


@dataclass(frozen=True)
class Adam:
    """Adam, step for step as `torch.optim.Adam`.

    Where the second moment is zero the derivative of its square root is taken as zero, not
    infinite: a parameter that never had a gradient sends none to the data.

    Args:
        lr: learning rate.
        betas: decay of the first and the second moment.
        eps: added to the root of the second moment.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def init(self, theta: Tensor) -> AdamState:
        """Return zero moments."""
        return AdamState(torch.zeros_like(theta), torch.zeros_like(theta), 0)

    def update(self, theta: Tensor, grad: Tensor, state: AdamState) -> tuple[Tensor, AdamState]:
        """Return parameters and state after one step."""
        beta1, beta2 = self.betas
        step = state.step + 1
        first = torch.lerp(grad, state.first, beta1)
        second = beta2 * state.second + (1 - beta2) * grad * grad
        root = _safe_sqrt(second) / (1 - beta2**step) ** 0.5
        moved = theta - self.lr / (1 - beta1**step) * first / (root + self.eps)
        return moved, AdamState(first, second, step)


def _safe_sqrt(value: Tensor) -> Tensor:
    """Square root of value >= 0, with derivative 0 where it is zero or not a normal number."""
    live = value > torch.finfo(value.dtype).tiny
    return torch.where(live, torch.where(live, value, 1).sqrt(), 0)


class SgdState(NamedTuple):
    """The momentum buffer (P,)."""

    velocity: Tensor


@dataclass(frozen=True)
class Sgd:
    """SGD with momentum and L2 penalty, step for step as `torch.optim.SGD`.

    Args:
        lr: learning rate.
        momentum: decay of the velocity; 0 is plain gradient descent.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0

    def init(self, theta: Tensor) -> SgdState:
        """Return zero velocity."""
        return SgdState(torch.zeros_like(theta))

    def update(self, theta: Tensor, grad: Tensor, state: SgdState) -> tuple[Tensor, SgdState]:
        """Return parameters and state after one step."""
        velocity = self.momentum * state.velocity + grad + self.weight_decay * theta
        return theta - self.lr * velocity, SgdState(velocity)


@dataclass(frozen=True)
class Unrolled:
    """The end of an unrolled training.

    Attributes:
        theta: (P,) the final parameters, detached.
    """

    theta: Tensor
    _with_graph: Tensor

    def backward(self, cotangent: Tensor) -> None:
        """Add the gradient of <theta, cotangent> to `.grad` of what the window's batches hold.

        Can be called once; it frees the graph.

        Raises:
            InputError: the network has an operation without a second derivative.
        """
        try:
            torch.autograd.backward(self._with_graph, cotangent)
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            raise _no_second_derivative(error) from error


def unroll(
    model: FlatModel,
    optimizer: InnerOptimizer,
    theta: Tensor,
    batch_at: Callable[[int], Batch],
    *,
    warm_up: int,
    window: int,
) -> Unrolled:
    """Train from theta on given batches, and keep the graph of the last steps only.

    The optimizer's moments and its step counter go on from the warm-up into the window, where
    they enter as constants.

    Args:
        model: the network.
        optimizer: the inner optimizer; it starts afresh.
        theta: (P,) initial parameters; a constant.
        batch_at: the batch of step t = 0, 1, ...; called once for each step, in order, without
            gradients for t < warm_up. Augmentation is its business.
        warm_up: steps without a graph.
        window: steps after those, which `Unrolled.backward` differentiates.
    """
    theta = theta.detach()
    state = optimizer.init(theta)
    for step in range(warm_up):
        with torch.no_grad():
            batch = batch_at(step)
        theta = theta.detach().requires_grad_()
        (grad,) = torch.autograd.grad(inner_loss(model, theta, batch), theta)
        with torch.no_grad():
            theta, state = optimizer.update(theta, grad, state)
    theta = theta.detach().requires_grad_()
    for step in range(warm_up, warm_up + window):
        loss = inner_loss(model, theta, batch_at(step))
        (grad,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta, state = optimizer.update(theta, grad, state)
    return Unrolled(theta.detach(), theta)


def inner_loss(model: FlatModel, theta: Tensor, batch: Batch) -> Tensor:
    """Return the loss that the inner loop descends: cross-entropy with soft labels."""
    return soft_cross_entropy(model.logits(theta, batch.images), batch.labels)


def _no_second_derivative(error: RuntimeError) -> InputError:
    return InputError(
        f"the backbone cannot be distilled with: {str(error).splitlines()[0].rstrip('.')}.",
        expected="a network whose operations have second derivatives.",
        next="choose another --backbone; this one can still be used by `distill evaluate`.",
    )
