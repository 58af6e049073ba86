"""Fresh networks from explicit generators."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from distill_core.builtin.backbones.convnet import ConvNet
from distill_core.builtin.backbones.options import ConvNetOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import seeded
from distill_core.engine.fresh_networks import new_backbone
from distill_core.testing.small import TinyBackbone
from tests.second_device import DEVICE, on_cpu, second_device

SPEC = DataSpec("tiny", ("a", "b"), (3, 4, 4), ())


def made(seed: int) -> Backbone:
    def make() -> Backbone:
        return TinyBackbone(spec=SPEC).eval()

    return new_backbone(make, seeded(seed), torch.device("cpu"))


def test_weights_depend_on_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = made(0)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second, other = made(0), made(1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_one_generator_gives_one_network_after_another() -> None:
    generator = seeded(0)
    first, second = (
        new_backbone(lambda: TinyBackbone(spec=SPEC), generator, torch.device("cpu"))
        for _ in range(2)
    )
    assert not torch.equal(first.head.weight, second.head.weight)


def test_it_is_in_training_mode() -> None:
    assert made(0).training


def test_a_network_reaches_a_device_by_one_copy_for_each_dtype() -> None:
    options = ConvNetOptions(width=4, depth=2, norm="batch")

    def make() -> Backbone:
        made = ConvNet(options, spec=replace(SPEC, image_shape=(3, 8, 8)))
        made.head.bias.requires_grad_(False)
        return made

    here = new_backbone(make, seeded(0), torch.device("cpu"))
    with second_device() as log:
        there = new_backbone(make, seeded(0), DEVICE)
        assert log.copies.total() <= 2
        assert not log.waits
        assert all(each.device == DEVICE for each in there.state_dict().values())
        numbers = on_cpu(dict(there.state_dict()))
    assert numbers.keys() == here.state_dict().keys()
    assert all(torch.equal(numbers[name], each) for name, each in here.state_dict().items())
    trained = [(name, each.requires_grad) for name, each in there.named_parameters()]
    assert trained == [(name, each.requires_grad) for name, each in here.named_parameters()]
    assert all(isinstance(each, nn.Parameter) for each in there.parameters())
    assert there.training
