"""The linearised inner problem against dense matrices and the energy as it is published."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from distill_core.builtin.algorithms.regression.linearised import (
    InnerProblem,
    Linearised,
    fit_head,
    gradient_along,
)
from distill_core.contracts.data import DataSpec
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import seeded
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.testing.small import TinyBackbone

SPEC = DataSpec("small", ("a", "b", "c"), (2, 4, 4), ())
PENALTY = 0.3


def network() -> Backbone:
    device = torch.device("cpu")
    return new_backbone(lambda: TinyBackbone(spec=SPEC).double(), seeded(0, "net"), device)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed, "values", *shape), dtype=torch.float64)


def dense_jacobian(backbone: Backbone, images: Tensor) -> Tensor:
    """(n, K, P) of the logits, zero for the head."""
    parameters = {name: p.detach() for name, p in backbone.named_parameters()}

    def logits(values: dict[str, Tensor]) -> Tensor:
        result: Tensor = functional_call(backbone, values, (images,))
        return result

    found = torch.func.jacrev(logits)(parameters)
    return torch.cat(
        [(0 if name.startswith("head") else 1) * found[name].flatten(2) for name in parameters],
        2,
    )


def published_energy(
    backbone: Backbone, images: Tensor, targets: Tensor, tangent: Tensor
) -> Tensor:
    """The energy term by term, with explicit matrices."""
    jacobian = dense_jacobian(backbone, images)
    features = backbone.embed(images)
    kernel = features @ features.T
    outputs = jacobian @ tangent
    regular = kernel + PENALTY * torch.eye(len(kernel), dtype=kernel.dtype)
    weights = torch.linalg.inv(regular) @ (targets - outputs)
    error = (targets - outputs - kernel @ weights).square().sum()
    size = torch.trace(weights.T @ kernel @ weights) + tangent.square().sum()
    return 0.5 * (error + PENALTY * size) / targets.numel()


def test_products_with_the_jacobian_are_dense_products() -> None:
    backbone = network()
    images, cotangent = random(5, 2, 4, 4), random(5, 3)
    linear = Linearised(backbone, Engine())
    tangent = torch.randn(linear.zero().shape, generator=seeded(0, "tau"), dtype=torch.float64)
    dense = dense_jacobian(backbone, images)
    assert torch.allclose(linear.differentiable(images).times(tangent), dense @ tangent)
    expected = torch.einsum("nkp,nk->p", dense, cotangent)
    assert torch.allclose(linear.jacobian(images).transposed(cotangent), expected)
    assert torch.equal(linear.differentiable(images).features, backbone.embed(images))


def test_energy_gradient_and_hessian_are_those_of_the_published_energy() -> None:
    backbone, images, targets = network(), random(5, 2, 4, 4), random(5, 3)
    linear = Linearised(backbone, Engine())
    problem = InnerProblem(linear, images, targets, penalty=PENALTY)
    tangent = 0.1 * torch.randn(linear.zero().shape, generator=seeded(0, "t")).double()

    def energy(tau: Tensor) -> Tensor:
        return published_energy(backbone, images, targets, tau)

    value, gradient = problem.gradient(tangent)
    assert abs(value - float(energy(tangent).detach())) < 1e-12
    expected = torch.autograd.functional.jacobian(energy, tangent)
    assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-12)
    hessian = torch.autograd.functional.hessian(energy, tangent)
    vector = torch.randn(tangent.shape, generator=seeded(1, "v")).double()
    assert torch.allclose(problem.hessian_product(vector), hessian @ vector, atol=1e-12)


def test_the_gradient_along_a_vector_is_differentiable_in_images_and_targets() -> None:
    linear = Linearised(network(), Engine())
    tangent, vector = (
        torch.randn(linear.zero().shape, generator=seeded(s, "t")).double() for s in range(2)
    )
    images, targets = random(3, 2, 4, 4).requires_grad_(), random(3, 3).requires_grad_()
    problem = InnerProblem(linear, images, targets, penalty=PENALTY)

    def along(images: Tensor, targets: Tensor) -> Tensor:
        settings = {"tangent": tangent, "vector": vector}
        return gradient_along(linear, images, targets, penalty=PENALTY, **settings)

    expected = float(problem.gradient(tangent)[1] @ vector)
    assert abs(float(along(images, targets).detach()) - expected) < 1e-10
    assert torch.autograd.gradcheck(along, (images, targets))


def test_the_regressed_head_is_differentiable_in_everything() -> None:
    linear = Linearised(network(), Engine())
    images, targets = random(3, 2, 4, 4).requires_grad_(), random(3, 3).requires_grad_()
    tangent = torch.randn(linear.zero().shape, generator=seeded(0, "t")).double().requires_grad_()

    def total(images: Tensor, targets: Tensor, tangent: Tensor) -> Tensor:
        head = fit_head(linear, images, targets, tangent, penalty=PENALTY)
        return (head * torch.linspace(-1, 1, head.numel()).double().view_as(head)).sum()

    assert torch.autograd.gradcheck(total, (images, targets, tangent))
