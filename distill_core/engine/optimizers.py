"""Inner optimizers as pure functions of flat vectors, each with the adjoint of its step.

An optimizer is `init(theta)`, `update(theta, grad, state, lr)` and `adjoint(...)`; nothing changes
in place. Autograd can differentiate `update`, but the engine uses `adjoint`, which needs no graph.
For a loss L of the final parameters, `Adjoint` holds dL/d theta and dL/d state after a step.
`adjoint` turns them into those before the step, except for the part through the gradient: it
returns dL/d gradient, and the engine multiplies that by the Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Rate = float | Tensor  # a learned rate is a tensor of one number


class Adjoint(NamedTuple):
    """dL/d theta (P,), and dL/d state, a tuple of (P,) that only its optimizer reads."""

    theta: Tensor
    state: tuple[Tensor, ...]


class Back(NamedTuple):
    """One step back: dL/d gradient (P,), dL/d rate (a scalar), and the adjoint before the step,
    without the part through the gradient."""

    gradient: Tensor
    rate: Tensor
    adjoint: Adjoint


class InnerOptimizer(Protocol):
    """What the inner loop asks of an optimizer; the state is a tuple that only it reads.

    Attributes:
        lr: the learning rate if none is learned.
    """

    @property
    def lr(self) -> float:
        """Learning rate if none is learned."""
        ...

    def init(self, theta: Tensor) -> Any:
        """Return the state before the first step, for parameters theta (P,)."""
        ...

    def update(self, theta: Tensor, grad: Tensor, state: Any, lr: Rate) -> tuple[Tensor, Any]:
        """Return the parameters (P,) and the state after one step along grad (P,)."""
        ...

    def saved(self, state: Any) -> tuple[Tensor, ...]:
        """Return the vectors of a state after a step that `adjoint` reads."""
        ...

    def end(self, cotangent: Tensor) -> Adjoint:
        """Return the adjoint after the last step, from dL/d theta (P,) there."""
        ...

    def adjoint(self, theta: Tensor, grad: Tensor, state: Any, after: Adjoint, lr: Rate) -> Back:
        """Go back one step.

        Args:
            theta: (P,) parameters before the step.
            grad: (P,) its gradient.
            state: the state after the step.
            after: the adjoint after the step.
            lr: its learning rate.
        """
        ...


class AdamState(NamedTuple):
    """First and second moments (P,), and the number of steps taken: a number on the host, or a
    scalar on the device in a CUDA graph."""

    first: Tensor
    second: Tensor
    step: int | Tensor


@dataclass(frozen=True)
class Adam:
    """Adam, step for step as `torch.optim.Adam`.

    If the second moment is zero, the derivative of its square root is taken as zero instead of
    infinite: a parameter that never had a gradient sends none to the data.

    Args:
        lr: learning rate.
        betas: decay of the first and the second moment.
        eps: added to the bias-corrected root of the second moment.
        weight_decay: L2 penalty, added to the gradient.
        eps_first: add `eps` before that bias is corrected, as the library `higher` does: in effect
            eps / sqrt(1 - beta2^t), more in early steps.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    eps_first: bool = False

    def init(self, theta: Tensor) -> AdamState:
        """Return zero moments."""
        return AdamState(torch.zeros_like(theta), torch.zeros_like(theta), 0)

    def update(
        self, theta: Tensor, grad: Tensor, state: AdamState, lr: Rate
    ) -> tuple[Tensor, AdamState]:
        """Return parameters and state after one step."""
        beta1, beta2 = self.betas
        step = state.step + 1
        grad = self._penalised(theta, grad)
        first = torch.lerp(grad, state.first, beta1)
        second = beta2 * state.second + (1 - beta2) * grad * grad
        below = self._below(_safe_sqrt(second), (1 - beta2**step) ** 0.5)
        moved = theta - lr / (1 - beta1**step) * first / below
        return moved, AdamState(first, second, step)

    def saved(self, state: AdamState) -> tuple[Tensor, ...]:
        """Return both moments."""
        return state.first, state.second

    def end(self, cotangent: Tensor) -> Adjoint:
        """Nothing reads the last moments."""
        return Adjoint(cotangent, (torch.zeros_like(cotangent), torch.zeros_like(cotangent)))

    def adjoint(
        self, theta: Tensor, grad: Tensor, state: AdamState, after: Adjoint, lr: Rate
    ) -> Back:
        """Go back one step: the chain rule through both moments."""
        grad = self._penalised(theta, grad)
        beta1, beta2 = self.betas
        root = _safe_sqrt(state.second)
        correction = (1 - beta2**state.step) ** 0.5
        below = self._below(root, correction)
        # theta' = theta - rate * direction
        direction = state.first / below / (1 - beta1**state.step)
        in_first = after.state[0] - lr / (1 - beta1**state.step) * after.theta / below
        through_root = lr * after.theta * direction / below / (2 * correction)
        in_second = after.state[1] + torch.where(root > 0, through_root / root, 0)
        gradient = (1 - beta1) * in_first + 2 * (1 - beta2) * grad * in_second
        in_theta = after.theta
        if self.weight_decay:
            in_theta = in_theta + self.weight_decay * gradient
        return Back(
            gradient=gradient,
            rate=-(direction @ after.theta),
            adjoint=Adjoint(in_theta, (beta1 * in_first, beta2 * in_second)),
        )

    def _below(self, root: Tensor, correction: Rate) -> Tensor:
        """What a step is divided by; its derivative in the root is 1 / correction either way."""
        if self.eps_first:
            return (root + self.eps) / correction
        return root / correction + self.eps

    def _penalised(self, theta: Tensor, grad: Tensor) -> Tensor:
        return grad + self.weight_decay * theta if self.weight_decay else grad


def _safe_sqrt(value: Tensor) -> Tensor:
    """Square root of value >= 0, with derivative 0 where value is zero or subnormal."""
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

    def update(
        self, theta: Tensor, grad: Tensor, state: SgdState, lr: Rate
    ) -> tuple[Tensor, SgdState]:
        """Return parameters and state after one step."""
        velocity = self.momentum * state.velocity + grad + self.weight_decay * theta
        return theta - lr * velocity, SgdState(velocity)

    def saved(self, state: SgdState) -> tuple[Tensor, ...]:
        """Return the velocity, which only a learned rate needs."""
        return (state.velocity,)

    def end(self, cotangent: Tensor) -> Adjoint:
        """Nothing reads the last velocity."""
        return Adjoint(cotangent, (torch.zeros_like(cotangent),))

    def adjoint(
        self, theta: Tensor, grad: Tensor, state: SgdState, after: Adjoint, lr: Rate
    ) -> Back:
        """Go back one step: the velocity is linear in gradient, parameters and velocity."""
        del theta, grad
        in_velocity = after.state[0] - lr * after.theta
        return Back(
            gradient=in_velocity,
            rate=-(state.velocity @ after.theta),
            adjoint=Adjoint(
                after.theta + self.weight_decay * in_velocity, (self.momentum * in_velocity,)
            ),
        )
