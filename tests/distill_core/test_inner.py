"""The inner loop: optimizers against PyTorch's, and the derivative of training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from distill_core.contracts import Backbone
from distill_core.functional import FlatModel
from distill_core.inner import Adam, InnerOptimizer, Sgd, inner_loss, unroll
from distill_core.losses import soft_cross_entropy
from distill_core.streams import seeded
from distill_core.synthetic import Batch
from registry import InputError

OPTIMIZERS: dict[str, tuple[InnerOptimizer, Callable[..., torch.optim.Optimizer]]] = {
    "adam": (
        Adam(0.01, betas=(0.8, 0.95), eps=1e-6),
        lambda p: torch.optim.Adam(p, 0.01, betas=(0.8, 0.95), eps=1e-6),
    ),
    "gradient descent": (Sgd(0.1, 0.0), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (
        Sgd(0.1, 0.9, 0.05),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.05),
    ),
}


class Small(Backbone):
    """Two linear layers and a smooth activation between them, with one dead unit."""

    def __init__(self, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.activation = activation or nn.Tanh()
        self.head = nn.Linear(5, 3)

    def embed(self, images: Tensor) -> Tensor:
        features: Tensor = self.activation(self.first(images.flatten(1)))
        return features * torch.tensor([1.0, 1, 1, 1, 0]).to(features)


def small_model(activation: nn.Module | None = None) -> FlatModel:
    model = FlatModel(Small(activation).double())
    model.theta = torch.randn(model.theta.shape, generator=seeded(0, "weights")).double()
    return model


def some_batches(count: int) -> list[Batch]:
    generator = seeded(0, "batches")
    images = torch.randn(count, 6, 1, 2, 2, generator=generator).double()
    labels = torch.rand(count, 6, 3, generator=generator).double()
    labels = labels / labels.sum(2, keepdim=True)
    return [
        Batch(x.clone().requires_grad_(), y.clone().requires_grad_())
        for x, y in zip(images, labels, strict=True)
    ]


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
        theta, state = ours.update(theta, grad, state)
        assert torch.allclose(theta, parameter.detach(), rtol=1e-12, atol=1e-14), step


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_change_nothing_in_place_and_have_the_right_derivative(name: str) -> None:
    optimizer, _ = OPTIMIZERS[name]
    theta = torch.randn(4, dtype=torch.float64, generator=seeded(0), requires_grad=True)
    grads = torch.randn(3, 4, dtype=torch.float64, generator=seeded(1), requires_grad=True)

    def run(theta: Tensor, grads: Tensor) -> Tensor:
        state = optimizer.init(theta)
        for grad in grads:
            theta, state = optimizer.update(theta, grad, state)
        return theta

    before = theta.detach().clone()
    assert torch.autograd.gradcheck(run, (theta, grads))
    assert torch.equal(theta.detach(), before)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-23, 1e-12])
def test_adam_sends_finite_gradients_through_moments_of_any_size(size: float) -> None:
    grad = torch.full((2,), size, requires_grad=True)
    optimizer = Adam(0.001)
    theta, _ = optimizer.update(torch.zeros(2), grad, optimizer.init(torch.zeros(2)))
    theta.sum().backward()
    assert grad.grad is not None
    assert bool(torch.isfinite(grad.grad).all())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_unrolled_training_equals_plain_training(name: str) -> None:
    ours, theirs = OPTIMIZERS[name]
    model, batches = small_model(), some_batches(7)
    parameter = nn.Parameter(model.theta.clone())
    optimizer = theirs([parameter])
    for batch in batches:
        optimizer.zero_grad()
        inner_loss(model, parameter, Batch(*(part.detach() for part in batch))).backward()
        optimizer.step()
    for warm_up in (0, 3, 7):
        trained = unroll(
            model, ours, model.theta, batches.__getitem__, warm_up=warm_up, window=7 - warm_up
        )
        assert torch.allclose(trained.theta, parameter.detach(), rtol=1e-11, atol=1e-13)


def test_batches_are_asked_for_in_order_and_without_gradients_in_the_warm_up() -> None:
    model, batches = small_model(), some_batches(5)
    asked: list[tuple[int, bool]] = []

    def batch_at(step: int) -> Batch:
        asked.append((step, torch.is_grad_enabled()))
        return Batch(2 * batches[step].images, batches[step].labels)

    trained = unroll(model, Adam(0.1), model.theta, batch_at, warm_up=3, window=2)
    assert asked == [(0, False), (1, False), (2, False), (3, True), (4, True)]
    trained.backward(torch.ones_like(trained.theta))
    for step, batch in enumerate(batches):
        for part in batch:
            assert (part.grad is not None) == (step >= 3)
    assert not trained.theta.requires_grad


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_backward_agrees_with_central_differences(name: str) -> None:
    """The oracle trains by PyTorch's own optimizer; the warm-up sees the data as they were."""
    ours, theirs = OPTIMIZERS[name]
    model, batches, warm_up = small_model(), some_batches(6), 2
    cotangent = torch.randn(model.theta.shape, generator=seeded(1)).double()
    trained = unroll(model, ours, model.theta, batches.__getitem__, warm_up=warm_up, window=4)
    trained.backward(cotangent)

    def end(directions: list[tuple[Tensor, Tensor]], size: float) -> float:
        parameter = nn.Parameter(model.theta.clone())
        optimizer = theirs([parameter])
        for step, (batch, along) in enumerate(zip(batches, directions, strict=True)):
            moved = size if step >= warm_up else 0.0
            images, labels = (
                part.detach() + moved * d for part, d in zip(batch, along, strict=True)
            )
            optimizer.zero_grad()
            soft_cross_entropy(model.logits(parameter, images), labels).backward()
            optimizer.step()
        return float(parameter.detach() @ cotangent)

    generator = seeded(2)
    for only in (0, 1):  # images, then labels
        directions = [
            tuple(
                torch.randn(part.shape, generator=generator).double() * (place == only)
                for place, part in enumerate(batch)
            )
            for batch in batches
        ]
        slope = sum(
            float((part.grad * along).sum())
            for batch, pair in zip(batches, directions, strict=True)
            for part, along in zip(batch, pair, strict=True)
            if part.grad is not None
        )
        step = 1e-5
        measured = (end(directions, step) - end(directions, -step)) / (2 * step)
        assert slope == pytest.approx(measured, rel=1e-6)


def test_a_network_without_second_derivatives_is_refused() -> None:
    model, batches = small_model(nn.Hardsigmoid()), some_batches(1)
    trained = unroll(model, Sgd(0.1), model.theta, batches.__getitem__, warm_up=0, window=1)
    with pytest.raises(InputError, match="the backbone cannot be distilled with") as caught:
        trained.backward(torch.ones_like(trained.theta))
    assert "hardsigmoid_backward" in caught.value.what
