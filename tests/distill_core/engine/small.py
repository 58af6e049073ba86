"""A small smooth network, batches that can be differentiated, and a loop that keeps its graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.network import Backbone, FlatModel
from distill_core.contracts.streams import global_seed, seeded
from distill_core.contracts.synthetic import Batch
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.losses import soft_cross_entropy
from distill_core.engine.optimizers import InnerOptimizer
from distill_core.engine.unroll import Batches
from distill_core.testing.small import small_data


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


def convnet_loss(seed: int = 0) -> InnerLoss:
    """The loss of a ConvNet for `small_data`, by autograd in float64."""
    with global_seed(seeded(seed)):
        network = ConvNet(ConvNetOptions(width=2, depth=1), spec=small_data().spec).double()
    return AutogradLoss(FlatModel(network))


class Listed:
    """Batches from a list of leaves."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches
        self.asked: list[tuple[int, bool]] = []
        self.flushed = 0

    def __call__(self, step: int) -> Batch:
        self.asked.append((step, torch.is_grad_enabled()))
        images, labels = self.batches[step]
        return Batch(1 * images, labels)

    def flush(self) -> None:
        self.flushed += 1

    def grads(self) -> list[Tensor | None]:
        return [part.grad for batch in self.batches for part in batch]


def some_batches(count: int, shape: tuple[int, ...] = (1, 2, 2), *, size: int = 6) -> Listed:
    generator = seeded(0, "batches")
    images = torch.randn(count, size, *shape, generator=generator).double()
    labels = torch.rand(count, size, 3, generator=generator).double()
    labels = labels / labels.sum(2, keepdim=True)
    return Listed(
        [
            Batch(x.clone().requires_grad_(), y.clone().requires_grad_())
            for x, y in zip(images, labels, strict=True)
        ]
    )


def graph_unroll(
    model: FlatModel,
    optimizer: InnerOptimizer,
    batches: Batches,
    *,
    warm_up: int,
    window: int,
    rates: Tensor | None = None,
) -> Tensor:
    """The same training as `unroll`, by autograd through a graph of the whole window."""
    theta = model.theta.detach()
    state = optimizer.init(theta)
    for step in range(warm_up + window):
        if step <= warm_up:
            theta = theta.detach().requires_grad_()
            state = type(state)(*(v.detach() if isinstance(v, Tensor) else v for v in state))
        batch = batches(step)
        if step < warm_up:
            batch = Batch(*(part.detach() for part in batch))
        loss = soft_cross_entropy(model.logits(theta, batch.images), batch.labels)
        (grad,) = torch.autograd.grad(loss, theta, create_graph=step >= warm_up)
        rate = optimizer.lr if rates is None else (rates[step] if rates.ndim else rates)
        theta, state = optimizer.update(theta, grad, state, rate)
    return theta
