"""Ordinary training and testing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.streams import global_seed, seeded
from distill_core.engine.forward import how_trained, network_logits
from distill_core.engine.kernels.native import outcome
from distill_core.engine.losses import soft_cross_entropy

CPU = torch.device("cpu")


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_logits_are_those_of_the_network(norm: str) -> None:
    spec = DataSpec("made", ("a", "b", "c"), (1, 9, 12), ())
    options = ConvNetOptions.model_validate({"width": 6, "depth": 2, "norm": norm})
    with global_seed(seeded(0)):
        network = ConvNet(options, spec=spec).double().eval()
    images = torch.randn(5, 1, 9, 12, generator=seeded(1), dtype=torch.float64)
    with torch.no_grad():
        expected = network(images)
        found = network_logits(network, CPU)(images)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_any_module_will_do() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    images = torch.ones(3, 1, 2, 2)
    assert torch.equal(network_logits(network, CPU)(images), network(images))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_logits_follow_the_parameters_and_lead_back_to_them(norm: str) -> None:
    spec = DataSpec("made", ("a", "b", "c"), (3, 8, 8), ())
    options = ConvNetOptions.model_validate({"width": 6, "norm": norm})
    with global_seed(seeded(0)):
        network = ConvNet(options, spec=spec).double()
    logits_of = network_logits(network, CPU)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    network.head.weight.requires_grad_(False)
    images = torch.randn(5, 3, 8, 8, generator=seeded(1), dtype=torch.float64)
    labels = torch.rand(5, 3, generator=seeded(2), dtype=torch.float64)
    learned = [p for p in network.parameters() if p.requires_grad]
    expected = torch.autograd.grad(soft_cross_entropy(network(images), labels), learned)
    soft_cross_entropy(logits_of(images), labels).backward()  # type: ignore[no-untyped-call]
    for parameter, wanted in zip(learned, expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, wanted, rtol=1e-9, atol=1e-12)
    assert network.head.weight.grad is None


def test_kernels_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DataSpec("made", ("a", "b"), (3, 8, 8), ())
    network = ConvNet(ConvNetOptions(width=2), spec=spec)
    assert how_trained(network, CPU) == "ConvNet kernels, float32"
    monkeypatch.setenv("DISTILL_KERNELS", "off")
    outcome.cache_clear()
    assert network_logits(network, CPU) is network
    assert how_trained(network, CPU) == "autograd (DISTILL_KERNELS is off; unset DISTILL_KERNELS)"
    monkeypatch.undo()
    outcome.cache_clear()
