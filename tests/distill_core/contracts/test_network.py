"""A network as a function of flat parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill_core.contracts.network import Backbone, FlatModel
from distill_core.contracts.streams import seeded


class Normed(Backbone):
    """A network with batch norm, a frozen parameter and one that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))
        self.convolution = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 9, 5)

    def embed(self, images: Tensor) -> Tensor:
        features: Tensor = self.norm(self.convolution(self.scale * images))
        return nn.functional.softplus(features).flatten(1)


def some_images() -> Tensor:
    return torch.randn(6, 2, 3, 3, dtype=torch.float64, generator=seeded(0))


def test_it_computes_what_the_network_computes() -> None:
    backbone = Normed().double()
    model = FlatModel(backbone)
    images = some_images()
    assert torch.allclose(model.logits(model.theta, images), backbone(images), rtol=1e-12)
    assert torch.allclose(model.embed(model.theta, images), backbone.embed(images), rtol=1e-12)


def test_theta_holds_the_trained_parameters_and_is_a_copy() -> None:
    backbone = Normed().double()
    model = FlatModel(backbone)
    trained = [p for p in backbone.parameters() if p.requires_grad]
    assert torch.equal(model.theta, torch.cat([p.detach().reshape(-1) for p in trained]))
    assert not model.theta.requires_grad
    model.theta.add_(1)
    assert float(backbone.unused.detach().max()) == 1.0


def test_calls_change_neither_the_network_nor_each_other() -> None:
    backbone = Normed().double()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = FlatModel(backbone)
    theta = model.theta.clone().requires_grad_()
    first = model.logits(theta, some_images())
    second = model.logits(theta, some_images())
    torch.autograd.grad((first * second).sum(), theta)
    assert torch.equal(first, second)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in backbone.parameters())


def test_it_is_differentiable_twice_through_batch_norm() -> None:
    model = FlatModel(Normed().double())
    theta = model.theta.clone().requires_grad_()
    images = some_images().requires_grad_()
    direction = torch.randn(len(theta), dtype=torch.float64, generator=seeded(1))

    def slope(values: Tensor) -> Tensor:
        loss = (model.logits(theta, values) ** 2).mean()
        (grad,) = torch.autograd.grad(loss, theta, create_graph=True)
        return grad @ direction

    assert torch.autograd.gradcheck(slope, images)


def test_unused_parameters_have_a_zero_gradient() -> None:
    model = FlatModel(Normed().double())
    theta = model.theta.clone().requires_grad_()
    (grad,) = torch.autograd.grad(model.logits(theta, some_images()).sum(), theta)
    assert grad[:3].tolist() == [0, 0, 0]
    assert bool(grad[3:].any())
