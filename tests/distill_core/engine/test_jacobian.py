"""Products with a Jacobian against the dense matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.network import FlatModel
from distill_core.contracts.streams import global_seed, seeded
from distill_core.engine.engine import Engine
from distill_core.engine.jacobian import AutogradJacobian, ConvNetJacobian

SHAPE = (3, 9, 12)


def network(growth: int = 1) -> ConvNet:
    spec = DataSpec("made", ("a", "b", "c"), SHAPE, ())
    with global_seed(seeded(0)):
        return ConvNet(ConvNetOptions(width=5, depth=2, growth=growth), spec=spec).double()


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded(1, *shape), dtype=torch.float64)


@pytest.mark.parametrize(("kernels", "growth"), [(False, 1), (True, 1), (True, 2)])
def test_products_are_those_of_the_dense_jacobian_of_the_body(kernels: bool, growth: int) -> None:
    net, images = network(growth), drawn(4, *SHAPE)
    model = FlatModel(net)
    dense = torch.func.jacrev(model.logits)(model.theta, images)  # (n, K, P)
    for name, (place, _) in model.places().items():
        if name.startswith("head."):
            dense[:, :, place] = 0
    jacobian = Engine(kernels=kernels).jacobian(net)(images)
    assert isinstance(jacobian, ConvNetJacobian if kernels else AutogradJacobian)
    assert torch.allclose(jacobian.features, net.embed(images))
    tangent, cotangent = drawn(len(model.theta)), drawn(4, 3)
    for _ in range(2):  # there may be several products, in any order
        assert torch.allclose(jacobian.times(tangent), dense @ tangent, atol=1e-10)
        expected = torch.einsum("nkp,nk->p", dense, cotangent)
        assert torch.allclose(jacobian.transposed(cotangent), expected, atol=1e-10)


def test_the_parameters_are_copied() -> None:
    net, images = network(), drawn(2, *SHAPE)
    jacobian_at = Engine(kernels=True).jacobian(net)
    before = jacobian_at(images).features
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert torch.equal(jacobian_at(images).features, before)
