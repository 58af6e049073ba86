"""Expert training against PyTorch's own modules and optimizers."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from distill_core.contracts.data import RealData, Split
from distill_core.contracts.experts import ExpertRecipe
from distill_core.contracts.network import FlatModel
from distill_core.contracts.streams import Streams, seeded
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.fresh_networks import new_backbone
from distill_core.testing.small import TinyBackbone, small_data
from distill_core.training.experts import flat_gradient, train_expert

PLAIN = ExpertRecipe(batch=20, augment="none", lr=0.1)


def real_data() -> RealData:
    real = small_data()
    return replace(real, train=Split(real.train.images.double(), real.train.labels))


def network(real: RealData) -> TinyBackbone:
    made = new_backbone(
        lambda: TinyBackbone(spec=real.spec).double(), seeded(0), torch.device("cpu")
    )
    assert isinstance(made, TinyBackbone)
    return made


def snapshots(recipe: ExpertRecipe, epochs: int = 2) -> Tensor:
    real = real_data()
    loss = AutogradLoss(FlatModel(network(real)))
    return train_expert(loss, real, recipe, epochs=epochs, rng=Streams(0, "expert", 0))


def flat(backbone: TinyBackbone) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in backbone.parameters()])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_expert_is_trained_as_by_pytorch(momentum: float) -> None:
    recipe = PLAIN.model_copy(update={"momentum": momentum, "weight_decay": 0.01})
    found = snapshots(recipe)
    real = real_data()
    backbone, generator = network(real), Streams(0, "expert", 0)["batches"]
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1, momentum=momentum, weight_decay=0.01)
    assert torch.equal(found[0], flat(backbone).float())
    for epoch in (1, 2):
        order = torch.randperm(len(real.train), generator=generator)
        for index in order.split(20):
            optimizer.zero_grad()
            loss = cross_entropy(backbone(real.train.images[index]), real.train.labels[index])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert torch.allclose(found[epoch], flat(backbone).float(), atol=1e-7)


@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_snapshots_are_copies(rho: float) -> None:
    """Published code keeps views of the live parameters on a CPU: all are then the last one."""
    found = snapshots(PLAIN.model_copy(update={"rho": rho, "augment": "dsa"}), epochs=3)
    assert found.dtype == torch.float32
    assert all(float((b - a).norm()) > 1e-3 for a, b in itertools.pairwise(found))


def test_more_epochs_begin_with_the_same_ones() -> None:
    recipe = PLAIN.model_copy(update={"augment": "dsa"})
    assert torch.equal(snapshots(recipe, 3)[:3], snapshots(recipe, 2))


def test_the_flat_direction_equals_the_published_steps() -> None:
    """Parameter by parameter, in place, as the code of GSAM does it."""
    real, recipe = real_data(), ExpertRecipe(rho=0.3, alpha=0.4)
    backbone = network(real)
    images, labels = real.train.images[:20], real.train.labels[:20]

    def gradients(of: TinyBackbone) -> list[Tensor]:
        return list(torch.autograd.grad(cross_entropy(of(images), labels), list(of.parameters())))

    first = gradients(backbone)
    moved = copy.deepcopy(backbone)
    norm = torch.stack(
        [(p.abs() * g).norm() for p, g in zip(moved.parameters(), first, strict=True)]
    ).norm()
    with torch.no_grad():
        for p, g in zip(moved.parameters(), first, strict=True):
            p.add_(p.square() * g * recipe.rho / norm)
    second = gradients(moved)
    inner = sum(float((a * b).sum()) for a, b in zip(first, second, strict=True))
    norms = [float(torch.stack([g.norm() for g in each]).norm()) for each in (first, second)]
    cosine = inner / (norms[0] * norms[1])
    expected = []
    for a, b in zip(first, second, strict=True):
        vertical = a - cosine * norms[0] * b / norms[1]
        expected.append((b - recipe.alpha * vertical).reshape(-1))
    loss = AutogradLoss(FlatModel(backbone))

    def gradient(theta: Tensor) -> Tensor:
        model, start = loss.model, theta.detach().requires_grad_()
        value = cross_entropy(model.logits(start, images), labels)
        return torch.autograd.grad(value, start)[0]

    found = flat_gradient(gradient, loss.model.theta, recipe)
    assert torch.allclose(found, torch.cat(expected), rtol=1e-9, atol=1e-13)
    assert not torch.allclose(found, gradient(loss.model.theta), rtol=1e-2)
