"""ConvNet blocks for any device: PyTorch's convolutions, channels last, and fused functions.

The first block is like the others here: it keeps its z for the backward pass, while the C kernels
compute it again. Its input has no tangent, so it needs fewer convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill_core.engine.kernels.blocks import (
    ARITHMETIC,
    Cotangents,
    Layer,
    Norm,
    State,
    Values,
    halves,
)
from distill_core.engine.kernels.convolution import Direct
from distill_core.engine.kernels.torch_functions import PLAIN, Functions


@dataclass(frozen=True)
class TorchBlocks:
    """`Blocks` for one storage dtype.

    Args:
        storage: dtype of activations and cotangents in memory.
        functions: everything between the convolutions.
    """

    storage: torch.dtype
    functions: Functions = PLAIN

    @property
    def arithmetic(self) -> torch.dtype:
        """Dtype of norms, statistics and sums."""
        return ARITHMETIC[self.storage]

    @property
    def convolutions(self) -> Direct:
        """Convolutions of all blocks except the first."""
        return Direct()

    def weight(self, weight: Tensor) -> Tensor:
        """Return a weight in the storage dtype, channels last."""
        return weight.to(self.storage, memory_format=torch.channels_last)

    def images(self, images: Tensor) -> Tensor:
        """Return images (N, C0, h, w) as (N, h, w, C0) in the storage dtype."""
        return images.to(self.storage).permute(0, 2, 3, 1).contiguous()

    def forward(self, z: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        """Return a of z, and statistics (N, 2, C)."""
        return self.functions.forward(z, norm)

    def backward(self, z: Tensor, norm: Norm, stats: Tensor, P: Tensor) -> tuple[Tensor, Norm]:
        """Return p, and the gradients of the norm."""
        p, sums = self.functions.backward(z, norm, stats, P)
        return p, Norm(*sums.sum(0).unbind())

    def tangent_forward(self, values: Values, norm: Norm, tangent: Norm) -> tuple[Tensor, Tensor]:
        """Return a and ta, and statistics (N, 4, C)."""
        return self.functions.tangent_forward(values, norm, tangent)

    def tangent_backward(
        self, values: Values, norm: Norm, tangent: Norm, stats: Tensor, above: Cotangents
    ) -> tuple[Tensor, Norm]:
        """Return q and p, and dL'/d of the norm."""
        qp, sums = self.functions.tangent_backward(values, norm, tangent, stats, above)
        return qp, Norm(*sums.sum(0).unbind())

    def first_forward(self, images: Tensor, pad: int, layer: Layer) -> tuple[Tensor, State]:
        """Return a, and z with its statistics."""
        z = Direct(pad).forward(images, layer.weight)
        a, stats = self.forward(z, layer.norm)
        return a, (z, stats)

    def first_backward(
        self, images: Tensor, pad: int, layer: Layer, state: State, P: Tensor
    ) -> Layer:
        """Return the gradients of the parameters, not of the images."""
        z, stats = state
        p, norm = self.backward(z, layer.norm, stats, P)
        return Layer(Direct(pad).backward_weight(p, images, layer.weight), norm)

    def first_backward_to_images(
        self, images: Tensor, pad: int, layer: Layer, state: State, P: Tensor
    ) -> tuple[Layer, Tensor]:
        """Return the gradients of the parameters and of the images."""
        z, stats = state
        p, norm = self.backward(z, layer.norm, stats, P)
        dimages, dweight = Direct(pad).backward(p, images, layer.weight)
        return Layer(dweight, norm), self._planes(dimages)

    def first_tangent_forward(
        self, images: Tensor, pad: int, layer: Layer, tangent: Layer
    ) -> tuple[Tensor, State]:
        """Return a and ta, and z and tz with their statistics."""
        direct = Direct(pad)
        values = Values(*(direct.forward(images, each.weight) for each in (layer, tangent)))
        both, stats = self.tangent_forward(values, layer.norm, tangent.norm)
        return both, (*values, stats)

    def first_tangent_backward(
        self,
        images: Tensor,
        pad: int,
        layer: Layer,
        tangent: Layer,
        *,
        state: State,
        above: Cotangents,
    ) -> tuple[Layer, Tensor]:
        """Return dL'/d of the parameters and of the images."""
        z, tz, stats = state
        qp, norm = self.tangent_backward(Values(z, tz), layer.norm, tangent.norm, stats, above)
        (q, p), direct = halves(qp), Direct(pad)
        dimages, dweight = direct.backward(q, images, layer.weight)
        dimages = dimages.add_(direct.backward_input(p, images, tangent.weight))
        return Layer(dweight, norm), self._planes(dimages)

    def cross_entropy(self, logits: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Return the loss, and its gradient in the logits."""
        return self.functions.cross_entropy(logits, labels, scale)

    def tangent_cross_entropy(
        self, logits: Tensor, tlogits: Tensor, labels: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return dL'/d tlogits, dL'/d logits and dL'/d labels."""
        return self.functions.tangent_cross_entropy(logits, tlogits, labels, scale)

    def _planes(self, dimages: Tensor) -> Tensor:
        return dimages.permute(0, 3, 1, 2).to(
            self.arithmetic, memory_format=torch.contiguous_format
        )
