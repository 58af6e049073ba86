"""Inner optimizers against PyTorch's, and their adjoints against autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from distill_core.contracts.streams import seeded
from distill_core.engine.optimizers import Adam, InnerOptimizer, Sgd

OPTIMIZERS: dict[str, tuple[InnerOptimizer, Callable[..., torch.optim.Optimizer]]] = {
    "adam": (
        Adam(0.01, betas=(0.8, 0.95), eps=1e-6),
        lambda p: torch.optim.Adam(p, 0.01, betas=(0.8, 0.95), eps=1e-6),
    ),
    "adam with weight decay": (
        Adam(0.01, weight_decay=0.05),
        lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.05),
    ),
    "gradient descent": (Sgd(0.1, 0.0), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (
        Sgd(0.1, 0.9, 0.05),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.05),
    ),
}


def higher_adam(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    """`higher`'s Adam in words of PyTorch's, whose epsilon is made anew for each step."""
    optimizer = torch.optim.Adam(params, 0.01, betas=(0.8, 0.95))
    (group,) = optimizer.param_groups
    group["steps"] = 0

    def place_epsilon(*_: object) -> None:
        group["steps"] += 1
        group["eps"] = 1e-3 / (1 - 0.95 ** group["steps"]) ** 0.5

    optimizer.register_step_pre_hook(place_epsilon)
    return optimizer


OPTIMIZERS["adam, epsilon first"] = (
    Adam(0.01, betas=(0.8, 0.95), eps=1e-3, eps_first=True),
    higher_adam,
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_equal_pytorchs_step_for_step(name: str) -> None:
    ours, theirs = OPTIMIZERS[name]
    generator = seeded(0)
    start = torch.randn(7, dtype=torch.float64, generator=generator)
    parameter = nn.Parameter(start.clone())
    optimizer = theirs([parameter])
    theta, state = start, ours.init(start)
    for step in range(30):
        grad = torch.randn(7, dtype=torch.float64, generator=generator) * 10.0 ** (step % 5 - 2)
        grad[0] = 0  # never moves the moments
        parameter.grad = grad.clone()
        optimizer.step()
        theta, state = ours.update(theta, grad, state, ours.lr)
        assert torch.allclose(theta, parameter.detach(), rtol=1e-12, atol=1e-14), step


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_change_nothing_in_place_and_have_the_right_derivative(name: str) -> None:
    optimizer, _ = OPTIMIZERS[name]
    theta = torch.randn(4, dtype=torch.float64, generator=seeded(0), requires_grad=True)
    grads = torch.randn(3, 4, dtype=torch.float64, generator=seeded(1), requires_grad=True)

    def run(theta: Tensor, grads: Tensor) -> Tensor:
        state = optimizer.init(theta)
        for grad in grads:
            theta, state = optimizer.update(theta, grad, state, optimizer.lr)
        return theta

    before = theta.detach().clone()
    assert torch.autograd.gradcheck(run, (theta, grads))
    assert torch.equal(theta.detach(), before)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-23, 1e-12])
def test_adam_sends_finite_gradients_through_moments_of_any_size(size: float) -> None:
    grad = torch.full((2,), size, requires_grad=True)
    optimizer = Adam(0.001)
    theta, _ = optimizer.update(torch.zeros(2), grad, optimizer.init(torch.zeros(2)), 0.001)
    theta.sum().backward()
    assert grad.grad is not None
    assert bool(torch.isfinite(grad.grad).all())


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 4])
def test_the_adjoint_of_a_step_is_that_of_autograd(name: str, steps: int) -> None:
    """Through `steps` steps whose gradients do not depend on the parameters."""
    optimizer, _ = OPTIMIZERS[name]
    theta = torch.randn(5, dtype=torch.float64, generator=seeded(0), requires_grad=True)
    grads = torch.randn(steps, 5, dtype=torch.float64, generator=seeded(1))
    grads[:, 0] = 0  # its second moment stays zero
    grads.requires_grad_()
    rate = torch.tensor(0.03, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(5, dtype=torch.float64, generator=seeded(2))
    kept, moved, state = [], theta, optimizer.init(theta)
    for grad in grads:
        before = moved
        moved, state = optimizer.update(moved, grad, state, rate)
        kept.append((before.detach(), grad.detach(), state))
    expected = torch.autograd.grad(moved, (theta, grads, rate), cotangent)
    adjoint, found, in_rate = optimizer.end(cotangent), [], torch.zeros_like(rate)
    with torch.no_grad():
        for step in reversed(kept):
            back = optimizer.adjoint(*step, adjoint, rate)
            adjoint = back.adjoint
            found.insert(0, back.gradient)
            in_rate += back.rate
    for one, other in zip((adjoint.theta, torch.stack(found), in_rate), expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-23, 1e-12])
def test_the_adjoint_of_adam_is_finite_for_moments_of_any_size(size: float) -> None:
    optimizer, zero = Adam(0.001), torch.zeros(2)
    grad = torch.full((2,), size)
    _, state = optimizer.update(zero, grad, optimizer.init(zero), 0.001)
    back = optimizer.adjoint(zero, grad, state, optimizer.end(torch.ones(2)), 0.001)
    for tensor in (back.gradient, back.rate, back.adjoint.theta, *back.adjoint.state):
        assert bool(torch.isfinite(tensor).all())
