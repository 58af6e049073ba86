"""The pool of online networks: updates as PyTorch's, ages, replacement, and state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Generator, Tensor

from distill_core.builtin.algorithms.regression.network_pool import (
    NetworkPool,
    OnlineNetwork,
)
from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.streams import seeded
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.engine.optimizers import Adam
from distill_core.system.state_tree import copied
from distill_core.testing.assertions import equal

SPEC = DataSpec("small", ("a", "b", "c"), (3, 8, 8), ())


def network(norm: str = "instance", *, seed: int = 0) -> ConvNet:
    options = ConvNetOptions.model_validate({"width": 4, "norm": norm, "activation": "softplus"})

    def make() -> ConvNet:
        return ConvNet(options, spec=SPEC).double()

    made = new_backbone(make, seeded(seed, "network"), torch.device("cpu"))
    assert isinstance(made, ConvNet)
    return made


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = seeded(seed, "batch")
    images = torch.randn(7, 3, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.randn(7, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("chunk", [None, 3])
def test_updates_are_those_of_torch(chunk: int | None) -> None:
    backbone = network()
    known = copy.deepcopy(backbone)
    member = OnlineNetwork(backbone, Adam(0.01), age=0, engine=Engine())
    optimizer = torch.optim.Adam(known.parameters(), 0.01)
    images, targets = batch()
    for _ in range(4):
        error = (known(images) - targets).square().sum(1).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        assert member.train(images, targets, chunk=chunk) == pytest.approx(error.item())
    assert member.age == 4
    for found, expected in zip(backbone.parameters(), known.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_frozen_parameters_stay() -> None:
    backbone = network()
    backbone.head.weight.requires_grad_(False)
    before = backbone.head.weight.clone()
    member = OnlineNetwork(backbone, Adam(0.01), age=0, engine=Engine())
    member.train(*batch())
    assert torch.equal(backbone.head.weight, before)


def test_features_in_chunks_are_the_same_with_their_gradient() -> None:
    member = OnlineNetwork(network(), Adam(0.01), age=0, engine=Engine())
    images, _ = batch()
    results = []
    for chunk in (None, 3):
        x = images.clone().requires_grad_()
        features = member.embed(x, chunk=chunk)
        results.append((features.detach(), *torch.autograd.grad(features.square().sum(), x)))
        with torch.no_grad():
            assert torch.allclose(member.embed(x, chunk=chunk), features, atol=1e-12)
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_batch_norm_trains_on_the_batch_and_embeds_by_running_statistics() -> None:
    backbone = network("batch")
    member = OnlineNetwork(backbone, Adam(0.01), age=0, engine=Engine())
    images, targets = batch()
    before = backbone.state_dict()["blocks.1.running_mean"].clone()
    member.train(images, targets)
    assert not torch.equal(before, backbone.state_dict()["blocks.1.running_mean"])
    with torch.no_grad():
        together, alone = member.embed(images), member.embed(images[:1])
    assert torch.allclose(together[:1], alone, atol=1e-12)


def pool(size: int = 4, max_age: int = 10) -> NetworkPool:
    def make(generator: Generator) -> ConvNet:
        return network("batch", seed=int(torch.randint(10**6, (), generator=generator)))

    return NetworkPool(make, optimizer=Adam(0.01), size=size, max_age=max_age, engine=Engine())


def test_ages_are_staggered_and_weights_fresh() -> None:
    made = pool()
    made.fill(seeded(0, "pool"))
    assert [member.age for member in made.members] == [0, 2, 5, 7]
    assert all(member.state_dict()["moments"][2] == 0 for member in made.members)
    members = list(made.members)
    made.fill(seeded(1, "pool"))
    assert made.members == members


def test_a_place_is_given_away_after_so_many_updates() -> None:
    made = pool(size=2, max_age=3)
    generator = seeded(0, "pool")
    made.fill(generator)
    ages, first = [], made.members[0]
    for _ in range(7):
        made.members[0].train(*batch())
        made.replace_if_old(0, generator)
        ages.append(made.members[0].age)
    assert ages == [1, 2, 0, 1, 2, 0, 1]
    assert made.members[0] is not first
    assert made.members[1].age == 1


def test_the_state_is_complete() -> None:
    made = pool()
    made.fill(seeded(0, "pool"))
    made.members[1].train(*batch())
    state = copied(made.state_dict())
    other = pool()
    other.load_state_dict(state)
    assert equal(other.state_dict(), state)
    for each in (made, other):
        each.members[1].train(*batch(1))
    assert equal(other.state_dict(), made.state_dict())
    assert not equal(other.state_dict(), state)  # what was saved is no alias
