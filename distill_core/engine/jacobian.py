"""Products with the Jacobian J of a network's logits in the parameters of its body.

The body is everything below the head. The head's part of a vector (P,) counts as zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill_core.contracts.network import FlatModel
from distill_core.engine.convnet_body import ConvNetBody, parts_of
from distill_core.engine.kernels.blocks import State, halves


class AutogradJacobian:
    """J of any backbone, as a graph, by reverse mode alone.

    J^T c is linear in c, so the gradient of <J^T c, tangent> in c is J tangent. Forward mode, which
    some operations lack, is not needed.

    Args:
        model: the network, with its current parameters.
        images: (n, C, h, w).

    Attributes:
        features: (n, d) of the images, differentiable in them, as `times` is.
    """

    @torch.enable_grad()
    def __init__(self, model: FlatModel, images: Tensor) -> None:
        self._theta = model.theta.clone().requires_grad_()
        self._body = model.body()
        self.features, self._logits = model.both(self._theta, images)
        self._probe = torch.zeros_like(self._logits, requires_grad=True)
        (self._pulled,) = torch.autograd.grad(
            self._logits, self._theta, self._probe, create_graph=True
        )

    def times(self, tangent: Tensor) -> Tensor:
        """Return J tangent (n, K), differentiable in both if gradients are enabled."""
        (found,) = torch.autograd.grad(
            self._pulled,
            self._probe,
            tangent * self._body,
            retain_graph=True,
            create_graph=torch.is_grad_enabled(),
        )
        return found

    def transposed(self, cotangent: Tensor) -> Tensor:
        """Return J^T c (P,) for c (n, K), without a graph."""
        (found,) = torch.autograd.grad(
            self._logits, self._theta, cotangent.to(self._logits), retain_graph=True
        )
        return found * self._body


class ConvNetJacobian:
    """J of a network of `ConvBlocks`, without a graph.

    Args:
        model: the network, with its current parameters.
        body: its blocks.
        images: (n, C, h, w).
    """

    @torch.no_grad()
    def __init__(self, model: FlatModel, body: ConvNetBody, images: Tensor) -> None:
        self._model, self._body, self._images = model, body, body.images(images)
        values = model.views(model.theta)
        self._layers = body.layers([values[name] for name in body.names])
        self._head = values["head.weight"]
        self._kept: list[State] = []
        self._last = body.forward(self._layers, self._images, self._kept)

    @property
    def features(self) -> Tensor:
        """(n, d) of the images."""
        return self._body.flattened(self._last)

    @torch.no_grad()
    def times(self, tangent: Tensor) -> Tensor:
        """Return J tangent (n, K)."""
        values = self._model.views(tangent)
        tangents = self._body.layers([values[name] for name in self._body.names])
        both, _ = self._body.tangent_forward(self._layers, tangents, self._images)
        return self._body.flattened(halves(both)[1]) @ self._head.t()

    @torch.no_grad()
    def transposed(self, cotangent: Tensor) -> Tensor:
        """Return J^T c (P,) for c (n, K)."""
        above = self._body.unflattened(cotangent.to(self._head) @ self._head)
        kept = list(self._kept)  # `backward` empties its list; more products may follow
        found = self._body.backward(self._layers, self._images, kept, above)
        gradient = torch.zeros_like(self._model.theta)
        values = self._model.views(gradient)
        for name, part in zip(self._body.names, parts_of(found), strict=True):
            values[name].copy_(part)
        return gradient
