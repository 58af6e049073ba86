"""The contract of a backbone, and a network as a pure function of one flat parameter vector.

Inner loops differentiate through their own updates, so `FlatModel` takes parameters as an argument:
one vector (P,), whose gradient, moments and adjoints are vectors too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call


class ConvLayer(NamedTuple):
    """Names of a block's parameters: 3x3 convolution, and the norm's scale and shift."""

    weight: str
    norm_weight: str
    norm_bias: str


@dataclass(frozen=True)
class ConvBlocks:
    """A network that the engine has kernels for.

    Blocks of 3x3 convolution (stride 1, padding 1), instance norm, ReLU and 2x2 mean; then the
    head, with a bias, on the flattened output. The norm's epsilon is PyTorch's default, 1e-5.

    Attributes:
        layers: the blocks, from the images on.
        padding: of the first convolution, which may be more than 1.
        last_hw: height and width before the head.
    """

    layers: tuple[ConvLayer, ...]
    padding: int
    last_hw: tuple[int, int]


class Backbone(nn.Module, ABC):
    """A network as features and a last linear layer.

    Made by `factory(options, spec=DataSpec)`. PyTorch's layers draw their initial weights from
    global random state, so always make one through `new_backbone`.

    Attributes:
        head: the last layer, d features to K logits.
    """

    head: nn.Linear

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Return features (n, d) of images (n, C, h, w)."""

    def conv_blocks(self) -> ConvBlocks | None:
        """Return the network's structure if it is exactly `ConvBlocks` and `head`, otherwise None.

        The engine then differentiates it by its own kernels, so a network that returns a structure
        must compute exactly that.
        """
        return None

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, K)."""
        logits: Tensor = self.head(self.embed(images))
        return logits


class FlatModel:
    """The logits and features of a backbone as functions of flat parameters.

    Frozen parameters (`requires_grad` False) keep their values. Buffers are cloned for every call:
    batch statistics that a layer writes are discarded on purpose, so a call never changes the next
    one. In training mode batch normalisation does not read them.

    Args:
        backbone: in the mode in which it will be called; it is not changed.

    Attributes:
        theta: (P,) its parameters, copied and detached.
        num_classes: K, the length of its logits.
    """

    def __init__(self, backbone: Backbone) -> None:
        parameters = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
        self._both = _Both(backbone)
        self._names = list(parameters)
        head = {id(parameter) for parameter in backbone.head.parameters()}
        self._head = {n for n, parameter in parameters.items() if id(parameter) in head}
        self._shapes = [parameter.shape for parameter in parameters.values()]
        self._sizes = [parameter.numel() for parameter in parameters.values()]
        self._buffers = {f"backbone.{n}": buffer for n, buffer in backbone.named_buffers()}
        self.num_classes = backbone.head.out_features
        self.theta = torch.cat([p.detach().reshape(-1) for p in parameters.values()])

    def places(self) -> dict[str, tuple[slice, torch.Size]]:
        """Return the slice of the flat vector and the shape of each named parameter."""
        found, start = {}, 0
        for name, size, shape in zip(self._names, self._sizes, self._shapes, strict=True):
            found[name] = (slice(start, start + size), shape)
            start += size
        return found

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the part of a flat vector (P,) that belongs to each named parameter."""
        parts = torch.split(flat, self._sizes)
        return {n: p.view(s) for n, p, s in zip(self._names, parts, self._shapes, strict=True)}

    def body(self) -> Tensor:
        """Return a vector (P,) of ones, with zeros for the head."""
        ones = torch.ones_like(self.theta)
        for name, part in self.views(ones).items():
            if name in self._head:  # "head.weight", or a library's name for it
                part.zero_()
        return ones

    def logits(self, theta: Tensor, images: Tensor) -> Tensor:
        """Return logits (n, K) of images (n, C, h, w); differentiable in both to any order."""
        return self.both(theta, images)[1]

    def embed(self, theta: Tensor, images: Tensor) -> Tensor:
        """Return features (n, d) of images (n, C, h, w); differentiable in both to any order."""
        return self.both(theta, images)[0]

    def both(self, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, d) and logits (n, K) of images (n, C, h, w), from one pass."""
        values = {f"backbone.{name}": part for name, part in self.views(theta).items()}
        for name, buffer in self._buffers.items():
            values[name] = buffer.clone()
        result: tuple[Tensor, Tensor] = functional_call(self._both, values, (images,))
        return result


class _Both(nn.Module):
    """Gives `functional_call`, which calls only `forward`, access to `embed`."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone.embed(images)
        return features, self.backbone.head(features)
