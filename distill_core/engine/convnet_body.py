"""The body of the paper's ConvNet, without its head: forward, backward, and along a tangent.

It calls the functions of `kernels.blocks` that the device has. Whatever uses the features (a loss,
a Jacobian, PyTorch itself) supplies their cotangents. Activations are channels last, (n, h, w, C).

The bias of a convolution has no effect before a norm: its gradient is exactly zero here, where
autograd returns rounding errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distill_core.contracts.network import ConvBlocks
from distill_core.engine.kernels.blocks import (
    Blocks,
    Cotangents,
    Layer,
    Norm,
    State,
    Values,
)

Layers = Sequence[Layer]


class Kept(NamedTuple):
    """What the backward sweep needs of a block: its input, its convolution's output, statistics."""

    below: Tensor
    z: Tensor
    stats: Tensor


class Primal(NamedTuple):
    """What a plain forward and backward pass finds in a block, for a tangent pass to reuse.

    Attributes:
        z: (n, h, w, C), the convolution's output.
        P: (n, h, w, C0), the gradient of the loss in the convolution's input.
    """

    z: Tensor
    P: Tensor


class TangentKept(NamedTuple):
    """`Kept` for a pass along a tangent; `below` holds values, then tangents."""

    below: Tensor
    z: Tensor
    tz: Tensor
    stats: Tensor


def parts_of(layers: Layers) -> list[Tensor]:
    """Return the tensors of blocks, in the order of `names`."""
    return [part for layer in layers for part in (layer.weight, *layer.norm)]


class ConvNetBody:
    """The blocks of a network of `ConvBlocks`; parameters are arguments.

    Args:
        structure: the network's blocks, from `Backbone.conv_blocks`.
        blocks: kernels of the device and the activations' dtype, from `blocks_for`.

    Attributes:
        structure: as given.
        names: of the parameters, from the images on.
        blocks: as given.
    """

    def __init__(self, structure: ConvBlocks, blocks: Blocks) -> None:
        self.structure = structure
        self.names = [name for layer in structure.layers for name in layer]
        self.blocks = blocks

    @property
    def storage(self) -> torch.dtype:
        """Dtype of activations and of their cotangents."""
        return self.blocks.storage

    @property
    def arithmetic(self) -> torch.dtype:
        """Dtype of parameters, and of everything above the features."""
        return self.blocks.arithmetic

    def layers(self, parts: Sequence[Tensor]) -> list[Layer]:
        """Group tensors in the order of `names`, parameters or a direction in them, by block.

        Weights are converted to the layout that the blocks read, once for all uses.
        """
        return [
            Layer(self.blocks.weight(weight), Norm(gain, bias))
            for weight, gain, bias in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        ]

    def images(self, images: Tensor) -> Tensor:
        """Return images (n, C, h, w) in the layout that the functions below take."""
        return self.blocks.images(images)

    def forward(self, layers: Layers, images: Tensor, kept: list[State] | None = None) -> Tensor:
        """Return the output of the last block; append to `kept` what the backward sweep needs.

        Args:
            layers: parameters, from `layers`.
            images: from `images`.
            kept: gets one entry per block: the first block's state, then a `Kept` for each other.
        """
        first, *later = layers
        a, state = self.blocks.first_forward(images, self.structure.padding, first)
        if kept is not None:
            kept.append(state)
        del state
        for layer in later:
            z = self.blocks.convolutions.forward(a, layer.weight)
            above, stats = self.blocks.forward(z, layer.norm)
            if kept is not None:
                kept.append(Kept(a, z, stats))
            a = above
        return a

    def backward(
        self,
        layers: Layers,
        images: Tensor,
        kept: list[State],
        cotangent: Tensor,
        *,
        primals: list[Primal] | None = None,
    ) -> list[Layer]:
        """Return the gradients of the parameters.

        Args:
            layers: parameters, as for `forward`.
            images: as for `forward`.
            kept: from `forward`; emptied, so that memory falls during the sweep.
            cotangent: of what `forward` returned.
            primals: gets one entry per block except the first, in order of the blocks.
        """
        below, found = self._backward(layers, kept, cotangent, primals)
        pad = self.structure.padding
        return [self.blocks.first_backward(images, pad, layers[0], kept.pop(), below), *found]

    def backward_to_images(
        self, layers: Layers, images: Tensor, kept: list[State], cotangent: Tensor
    ) -> tuple[list[Layer], Tensor]:
        """Return the gradients of the parameters, as `backward`, and of the images (n, C, h, w)."""
        below, found = self._backward(layers, kept, cotangent)
        first, dimages = self.blocks.first_backward_to_images(
            images, self.structure.padding, layers[0], kept.pop(), below
        )
        return [first, *found], dimages

    def tangent_forward(
        self,
        layers: Layers,
        tangents: Layers,
        images: Tensor,
        *,
        primals: Sequence[Primal] = (),
    ) -> tuple[Tensor, list[State]]:
        """Return the last block's output and its tangent as one tensor (2n, h, w, C), and what the
        backward sweep needs. The images have no tangent.

        Args:
            layers: parameters, from `layers`.
            tangents: the direction, also from `layers`.
            images: from `images`.
            primals: from `backward` at the same parameters and images, or empty.
        """
        (first, *later), (tfirst, *tlater) = layers, tangents
        pad = self.structure.padding
        both, state = self.blocks.first_tangent_forward(images, pad, first, tfirst)
        kept = [state]
        for depth, (layer, tlayer) in enumerate(zip(later, tlater, strict=True)):
            z = primals[depth].z if primals else None
            values = self.blocks.convolutions.tangent_forward(both, layer.weight, tlayer.weight, z)
            above, stats = self.blocks.tangent_forward(values, layer.norm, tlayer.norm)
            kept.append(TangentKept(both, *values, stats))
            both = above
        return both, kept

    def tangent_backward(
        self,
        layers: Layers,
        tangents: Layers,
        images: Tensor,
        kept: list[State],
        cotangents: Cotangents,
        *,
        primals: Sequence[Primal] = (),
    ) -> tuple[list[Layer], Tensor]:
        """Return the derivatives of the parameters and of the images (n, C, h, w).

        Args:
            layers: parameters, as for `tangent_forward`.
            tangents: the direction.
            images: as for `tangent_forward`.
            kept: from `tangent_forward`; emptied.
            cotangents: of the tangent and of the value of the last block's output.
            primals: as for `tangent_forward`; only if P above is the gradient that `backward` got.
        """
        found: list[Layer] = []
        for depth in range(len(layers) - 1, 0, -1):
            layer, tlayer = layers[depth], tangents[depth]
            both, z, tz, stats = kept.pop()
            qp, norm = self.blocks.tangent_backward(
                Values(z, tz), layer.norm, tlayer.norm, stats, cotangents
            )
            P = primals[depth - 1].P if primals else None
            cotangents, weight = self.blocks.convolutions.tangent_backward(
                qp, both, layer.weight, tlayer.weight, P
            )
            found.insert(0, Layer(weight, norm))
        pad = self.structure.padding
        last, dimages = self.blocks.first_tangent_backward(
            images, pad, layers[0], tangents[0], state=kept.pop(), above=cotangents
        )
        return [last, *found], dimages

    def flattened(self, a: Tensor) -> Tensor:
        """Return the last block's output as features (n, d), in PyTorch's order."""
        return a.permute(0, 3, 1, 2).flatten(1).to(self.arithmetic)

    def unflattened(self, cotangent: Tensor) -> Tensor:
        """Return the cotangent of features (n, d) as that of the last block's output."""
        planes = cotangent.view(len(cotangent), -1, *self.structure.last_hw)
        return planes.permute(0, 2, 3, 1).to(self.storage).contiguous()

    def _backward(
        self,
        layers: Layers,
        kept: list[State],
        cotangent: Tensor,
        primals: list[Primal] | None = None,
    ) -> tuple[Tensor, list[Layer]]:
        """The cotangent of the first block's output, and the gradients of all later blocks."""
        found: list[Layer] = []
        for layer in reversed(layers[1:]):
            below, z, stats = kept.pop()
            p, norm = self.blocks.backward(z, layer.norm, stats, cotangent)
            cotangent, weight = self.blocks.convolutions.backward(p, below, layer.weight)
            found.insert(0, Layer(weight, norm))
            if primals is not None:
                primals.insert(0, Primal(z, cotangent))
        return cotangent, found
