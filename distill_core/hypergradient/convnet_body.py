"""The body of the paper's ConvNet, all but its head: forwards, backwards, and along a tangent.

All of it is C functions of `kernels`. What stands above the features (a loss, a Jacobian, PyTorch
itself) gives their cotangents. Activations are channels last here, (n, h, w, C).

The bias of a convolution has no effect before a norm; its gradient is exactly zero here, where
autograd finds rounding errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distill_core.contracts import ConvBlocks
from distill_core.kernels import convolution
from distill_core.kernels.blocks import Blocks, Cotangents, Layer, Norm, Values

Layers = Sequence[Layer]


class Kept(NamedTuple):
    """What the sweep back needs of a block: what goes in, its convolution, statistics."""

    below: Tensor
    z: Tensor
    stats: Tensor


class Primal(NamedTuple):
    """What a plain pass there and back knows of a block that one along a tangent needs again.

    Attributes:
        z: (n, h, w, C), its convolution.
        P: (n, h, w, C0), the loss's gradient in what goes into it.
    """

    z: Tensor
    P: Tensor


class TangentKept(NamedTuple):
    """The same of a pass along a tangent; values and tangents one after the other."""

    below: Tensor
    values: Values
    stats: Tensor


def layers_of(parts: Sequence[Tensor]) -> list[Layer]:
    """Return blocks' parameters, or a direction in them, of tensors in the order of `names`."""
    return [
        Layer(weight, Norm(gain, bias))
        for weight, gain, bias in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]


def parts_of(layers: Layers) -> list[Tensor]:
    """Return the tensors of blocks, in the order of `names`."""
    return [part for layer in layers for part in (layer.weight, *layer.norm)]


class ConvNetBody:
    """The blocks of a network of `ConvBlocks`, on the CPU; parameters are arguments.

    Args:
        structure: what it consists of, from `Backbone.conv_blocks`.
        storage: type of activations; bfloat16 goes with float32 parameters.

    Raises:
        Unavailable: there is no compiled library here.

    Attributes:
        structure: as given.
        names: of the parameters, from the images on.
    """

    def __init__(self, structure: ConvBlocks, storage: torch.dtype) -> None:
        self.structure = structure
        self.names = [name for layer in structure.layers for name in layer]
        self._blocks = Blocks(storage)

    @property
    def storage(self) -> torch.dtype:
        """Type of activations and of their cotangents."""
        return self._blocks.storage

    @property
    def arithmetic(self) -> torch.dtype:
        """Type of parameters, and of what stands above the features."""
        return self._blocks.arithmetic

    def forward(self, layers: Layers, images: Tensor, kept: list[Kept] | None = None) -> Tensor:
        """Return what the last block gives; what the sweep back needs goes into `kept`.

        Args:
            layers: parameters.
            images: (n, C, h, w), dense.
            kept: a list to add to, one for each block but the first.
        """
        first, *later = layers
        a = self._blocks.first_forward(images, self.structure.padding, first)
        for layer in later:
            z = convolution.forward(a, layer.weight)
            above, stats = self._blocks.forward(z, layer.norm)
            if kept is not None:
                kept.append(Kept(a, z, stats))
            a = above
        return a

    def backward(
        self,
        layers: Layers,
        images: Tensor,
        kept: list[Kept],
        cotangent: Tensor,
        *,
        primals: list[Primal] | None = None,
    ) -> list[Layer]:
        """Return the gradients of the parameters.

        Args:
            layers: parameters, as for `forward`.
            images: as for `forward`.
            kept: from `forward`; emptied, so that memory falls on the way.
            cotangent: of what `forward` returned.
            primals: a list to add to, one for each block but the first, from the first on.
        """
        below, found = self._backward(layers, kept, cotangent, primals)
        pad = self.structure.padding
        return [self._blocks.first_backward(images, pad, layers[0], below), *found]

    def backward_to_images(
        self, layers: Layers, images: Tensor, kept: list[Kept], cotangent: Tensor
    ) -> tuple[list[Layer], Tensor]:
        """Return what `backward` does, and the gradient of the images."""
        below, found = self._backward(layers, kept, cotangent)
        # The kernel that reaches images goes along a tangent; here there is none.
        first, still = layers[0], _still(layers[0])
        cotangents = Cotangents(torch.zeros_like(below), below)
        pad = self.structure.padding
        last, dimages = self._blocks.first_tangent_backward(images, pad, first, still, cotangents)
        return [last, *found], dimages

    def tangent_forward(
        self,
        layers: Layers,
        tangents: Layers,
        images: Tensor,
        *,
        primals: Sequence[Primal] = (),
    ) -> tuple[Tensor, list[TangentKept]]:
        """Return what the last block gives and its tangent as one tensor (2n, h, w, C), and what
        the sweep back needs. The images have no tangent.

        Args:
            layers: parameters.
            tangents: the direction.
            images: (n, C, h, w), dense.
            primals: from `backward` at the same parameters and images, or nothing.
        """
        (first, *later), (tfirst, *tlater) = layers, tangents
        both = self._blocks.first_tangent_forward(images, self.structure.padding, first, tfirst)
        kept = []
        for depth, (layer, tlayer) in enumerate(zip(later, tlater, strict=True)):
            z = primals[depth].z if primals else None
            values = convolution.tangent_forward(both, layer.weight, tlayer.weight, z)
            above, stats = self._blocks.tangent_forward(values, layer.norm, tlayer.norm)
            kept.append(TangentKept(both, values, stats))
            both = above
        return both, kept

    def tangent_backward(
        self,
        layers: Layers,
        tangents: Layers,
        images: Tensor,
        kept: list[TangentKept],
        cotangents: Cotangents,
        *,
        primals: Sequence[Primal] = (),
    ) -> tuple[list[Layer], Tensor]:
        """Return the derivatives of the parameters and of the images.

        Args:
            layers: parameters, as for `tangent_forward`.
            tangents: the direction.
            images: (n, C, h, w), dense.
            kept: from `tangent_forward`; emptied.
            cotangents: of the tangent and of the value of what the last block gives.
            primals: as for `tangent_forward`, if P above is the gradient that `backward` was given.
        """
        found: list[Layer] = []
        for depth in range(len(layers) - 1, 0, -1):
            layer, tlayer = layers[depth], tangents[depth]
            both, values, stats = kept.pop()
            qp, norm = self._blocks.tangent_backward(
                values, layer.norm, tlayer.norm, stats, cotangents
            )
            P = primals[depth - 1].P if primals else None
            cotangents, weight = convolution.tangent_backward(
                qp, both, layer.weight, tlayer.weight, P
            )
            found.insert(0, Layer(weight, norm))
        pad = self.structure.padding
        last, dimages = self._blocks.first_tangent_backward(
            images, pad, layers[0], tangents[0], cotangents
        )
        return [last, *found], dimages

    def flattened(self, a: Tensor) -> Tensor:
        """Return what the last block gives as features (n, d), in PyTorch's order, for what stands
        above."""
        return a.permute(0, 3, 1, 2).flatten(1).to(self.arithmetic)

    def unflattened(self, cotangent: Tensor) -> Tensor:
        """Return the cotangent of features (n, d) as that of what the last block gives."""
        planes = cotangent.view(len(cotangent), -1, *self.structure.last_hw)
        return planes.permute(0, 2, 3, 1).to(self.storage).contiguous()

    def _backward(
        self,
        layers: Layers,
        kept: list[Kept],
        cotangent: Tensor,
        primals: list[Primal] | None = None,
    ) -> tuple[Tensor, list[Layer]]:
        """The cotangent of what the first block gives, and gradients of all later ones."""
        found: list[Layer] = []
        for layer in reversed(layers[1:]):
            below, z, stats = kept.pop()
            p, norm = self._blocks.backward(z, layer.norm, stats, cotangent)
            cotangent, weight = convolution.backward(p, below, layer.weight)
            found.insert(0, Layer(weight, norm))
            if primals is not None:
                primals.insert(0, Primal(z, cotangent))
        return cotangent, found


def _still(layer: Layer) -> Layer:
    """No direction at all in a block's parameters."""
    weight, norm = layer
    return Layer(torch.zeros_like(weight), Norm(*(torch.zeros_like(part) for part in norm)))
