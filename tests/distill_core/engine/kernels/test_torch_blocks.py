"""The blocks in PyTorch's operations against the C ones and against autograd, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from distill_core.builtin.backbones.convnet import ConvNet
from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.network import ConvBlocks, FlatModel
from distill_core.contracts.streams import seeded
from distill_core.contracts.synthetic import Batch
from distill_core.engine import engine, features
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.convnet import ConvNetLoss
from distill_core.engine.engine import Engine
from distill_core.engine.kernels.torch_blocks import TorchBlocks
from tests.distill_core.engine.test_convnet import drawn, error, made

DOUBLE = TorchBlocks(torch.float64)


def structure_of(net: ConvNet) -> ConvBlocks:
    structure = net.conv_blocks()
    assert structure is not None
    return structure


def everything(loss: InnerLoss, batch: Batch, vector: Tensor) -> tuple[Tensor, ...]:
    """Loss, gradient, logits, and the product, anew and with what was retained."""
    theta = loss.model.theta
    found = loss.evaluate(theta, batch, retain=True)
    anew = loss.product(theta, batch, vector)
    return (*found[:3], *anew, *loss.product(theta, batch, vector, found.retained))


@given(
    st.tuples(st.sampled_from([1, 3]), st.integers(4, 21), st.integers(4, 21)),
    st.integers(1, 19),
    st.integers(1, 2),
    st.sampled_from([None, 2]),
)
@settings(max_examples=8)
def test_any_network_has_the_derivatives_of_the_others(
    shape: tuple[int, int, int], width: int, depth: int, microbatch: int | None
) -> None:
    net = made(shape, width, depth, torch.float64)
    model, structure = FlatModel(net), structure_of(net)
    batch, vector = drawn(net, shape, torch.float64)
    ours = everything(
        ConvNetLoss(model, structure, microbatch=microbatch, blocks=DOUBLE), batch, vector
    )
    for other in (ConvNetLoss(model, structure), AutogradLoss(model)):
        for found, wanted in zip(ours, everything(other, batch, vector), strict=True):
            assert found.shape == wanted.shape
            assert error(found, wanted) < 1e-12


def test_small_digits_are_padded_alike() -> None:
    shape = (1, 28, 28)
    net = made(shape, 6, 3, torch.float64)
    model, structure = FlatModel(net), structure_of(net)
    assert structure.padding == 3
    batch, vector = drawn(net, shape, torch.float64)
    ours = everything(ConvNetLoss(model, structure, blocks=DOUBLE), batch, vector)
    theirs = everything(AutogradLoss(model), batch, vector)
    assert all(error(one, other) < 1e-12 for one, other in zip(ours, theirs, strict=True))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine with the plain blocks."""
    for module in (engine, features):
        monkeypatch.setattr(module, "blocks_for", lambda device, storage: TorchBlocks(storage))


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (2, 13, 9)])
def test_features_and_jacobian_are_those_of_autograd(shape: tuple[int, int, int]) -> None:
    net = made(shape, 7, 2, torch.float64)
    batch, vector = drawn(net, shape, torch.float64)
    cotangent = torch.randn(5, 7, generator=seeded(2), dtype=torch.float64)
    outcomes = []
    for chosen in (Engine(kernels=True), Engine(kernels=False)):
        images = batch.images.clone().requires_grad_()
        found = chosen.features(net)(images)
        learned = [net.blocks[0].weight, net.blocks[0 if len(net.blocks) < 5 else 4].weight]
        slopes = torch.autograd.grad(found.sin().sum(), [images, *learned], retain_graph=True)
        (alone,) = torch.autograd.grad(chosen.features(net)(batch.images).sum(), learned[:1])
        jacobian = chosen.jacobian(net)(batch.images)
        outcomes.append(
            [found, *slopes, alone, jacobian.features, jacobian.times(vector),
             jacobian.transposed(cotangent)]
        )  # fmt: skip
    biases = {n: at for n, (at, _) in FlatModel(net).places().items() if n in BEFORE_NORMS}
    for at in biases.values():  # exactly zero by the kernels, rounding errors by autograd
        outcomes[1][-1][at] = 0
    for one, other in zip(*outcomes, strict=True):
        assert error(one.detach(), other.detach()) < 1e-12


BEFORE_NORMS = {"blocks.0.bias", "blocks.4.bias"}


def test_half_precision_goes_the_same_way() -> None:
    shape = (3, 32, 32)
    net = made(shape, 16, 3, torch.float32)
    model = FlatModel(net)
    batch, vector = drawn(net, shape, torch.float32)
    blocks = TorchBlocks(torch.bfloat16)
    ours = everything(ConvNetLoss(model, structure_of(net), blocks=blocks), batch, vector)
    theirs = everything(AutogradLoss(model), batch, vector)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        assert error(one, other) < 0.2


@pytest.mark.parametrize("what", ["evaluate", "product"])
def test_a_graph_of_it_has_no_constants(what: str) -> None:
    """So a CUDA graph can hold it: nothing is brought from the host, and nothing is read there."""
    shape = (3, 8, 8)
    net = made(shape, 4, 2, torch.float64)
    model = FlatModel(net)
    batch, vector = drawn(net, shape, torch.float64)
    loss = ConvNetLoss(model, structure_of(net), blocks=DOUBLE)
    functions: dict[str, Callable[..., Any]] = {
        "evaluate": lambda theta, x, y, v: tuple(loss.evaluate(theta, Batch(x, y))[:3]),
        "product": lambda theta, x, y, v: tuple(loss.product(theta, Batch(x, y), v)),
    }
    given = (model.theta, *batch, vector)
    traced = make_fx(functions[what])(*given)
    assert not [node for node in traced.graph.nodes if node.op == "get_attr"]
    names = {str(node.target) for node in traced.graph.nodes}
    assert not [name for name in names if "_local_scalar" in name or "lift_fresh" in name]
    other = (model.theta * 1.5, batch.images + 1, batch.labels * 2, vector - 1)
    for found, wanted in zip(traced(*other), functions[what](*other), strict=True):
        assert torch.equal(found, wanted)
