"""The body of the paper's ConvNet, all but its head: forwards, backwards, and along a tangent.

All of it is the functions of `kernels.blocks`, whichever the device has. What stands above the
features (a loss, a Jacobian, PyTorch itself) gives their cotangents. Activations are channels last
here, (n, h, w, C).

The bias of a convolution has no effect before a norm; its gradient is exactly zero here, where
autograd finds rounding errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distill_core.contracts import ConvBlocks
from distill_core.kernels.blocks import Blocks, Cotangents, Layer, Norm, State, Values

Layers = Sequence[Layer]


class Kept(NamedTuple):
    """What the sweep back needs of a block: what goes in, its convolution, statistics."""

    below: Tensor
    z: Tensor
    stats: Tensor


class Primal(NamedTuple):
    """What a plain pass there and back knows of a block that one along a tangent needs again.

    Attributes:
        z: (n, h, w, C), the convolution's outcome.
        P: (n, h, w, C0), the loss's gradient in what goes into it.
    """

    z: Tensor
    P: Tensor


class TangentKept(NamedTuple):
    """The same of a pass along a tangent; values and tangents one after the other."""

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
        structure: what it consists of, from `Backbone.conv_blocks`.
        blocks: of the device and the type of activations, from `blocks_for`.

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
        """Type of activations and of their cotangents."""
        return self.blocks.storage

    @property
    def arithmetic(self) -> torch.dtype:
        """Type of parameters, and of what stands above the features."""
        return self.blocks.arithmetic

    def layers(self, parts: Sequence[Tensor]) -> list[Layer]:
        """Return blocks' parameters, or a direction in them, of tensors in the order of `names`;
        weights as the blocks read them, so this is done once for all uses."""
        return [
            Layer(self.blocks.weight(weight), Norm(gain, bias))
            for weight, gain, bias in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        ]

    def images(self, images: Tensor) -> Tensor:
        """Return images (n, C, h, w) as the functions below take them."""
        return self.blocks.images(images)

    def forward(self, layers: Layers, images: Tensor, kept: list[State] | None = None) -> Tensor:
        """Return what the last block gives; what the sweep back needs goes into `kept`.

        Args:
            layers: parameters, from `layers`.
            images: from `images`.
            kept: a list to add to, for each block: the first one's state, then a `Kept` each.
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
            kept: from `forward`; emptied, so that memory falls on the way.
            cotangent: of what `forward` returned.
            primals: a list to add to, one for each block but the first, from the first on.
        """
        below, found = self._backward(layers, kept, cotangent, primals)
        pad = self.structure.padding
        return [self.blocks.first_backward(images, pad, layers[0], kept.pop(), below), *found]

    def backward_to_images(
        self, layers: Layers, images: Tensor, kept: list[State], cotangent: Tensor
    ) -> tuple[list[Layer], Tensor]:
        """Return what `backward` does, and the gradient of the images (n, C, h, w)."""
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
        """Return what the last block gives and its tangent as one tensor (2n, h, w, C), and what
        the sweep back needs. The images have no tangent.

        Args:
            layers: parameters, from `layers`.
            tangents: the direction, from there, too.
            images: from `images`.
            primals: from `backward` at the same parameters and images, or nothing.
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
            cotangents: of the tangent and of the value of what the last block gives.
            primals: as for `tangent_forward`, if P above is the gradient that `backward` was given.
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
        kept: list[State],
        cotangent: Tensor,
        primals: list[Primal] | None = None,
    ) -> tuple[Tensor, list[Layer]]:
        """The cotangent of what the first block gives, and gradients of all later ones."""
        found: list[Layer] = []
        for layer in reversed(layers[1:]):
            below, z, stats = kept.pop()
            p, norm = self.blocks.backward(z, layer.norm, stats, cotangent)
            cotangent, weight = self.blocks.convolutions.backward(p, below, layer.weight)
            found.insert(0, Layer(weight, norm))
            if primals is not None:
                primals.insert(0, Primal(z, cotangent))
        return cotangent, found
