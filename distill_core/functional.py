"""A network as a pure function of one flat parameter vector.

Inner loops differentiate through their own updates, so parameters are arguments here and not
state: one vector (P,), whose gradient, moments and adjoints are vectors too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from distill_core.contracts import Backbone


class FlatModel:
    """The logits and features of a backbone as functions of flat parameters.

    Frozen parameters (`requires_grad` False) stay what they are. Buffers are cloned for every
    call: batch statistics that a layer writes are lost on purpose, so a call never changes the
    next one. In training mode batch normalisation does not read them.

    Args:
        backbone: in the mode in which it is to be called; it is not changed.

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
        """Return where in the flat vector each named parameter lies, and its shape."""
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
            if name in self._head:  # "head.weight", or what a library calls it
                part.zero_()
        return ones

    def logits(self, theta: Tensor, images: Tensor) -> Tensor:
        """Return logits (n, K) of images (n, C, h, w); differentiable in both to any order."""
        return self.both(theta, images)[1]

    def embed(self, theta: Tensor, images: Tensor) -> Tensor:
        """Return features (n, d) of images (n, C, h, w); differentiable in both to any order."""
        return self.both(theta, images)[0]

    def both(self, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, d) and logits (n, K) of images (n, C, h, w), of one pass."""
        values = {f"backbone.{name}": part for name, part in self.views(theta).items()}
        for name, buffer in self._buffers.items():
            values[name] = buffer.clone()
        result: tuple[Tensor, Tensor] = functional_call(self._both, values, (images,))
        return result


class _Both(nn.Module):
    """`functional_call` only knows `forward`; this makes it reach `embed` too."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone.embed(images)
        return features, self.backbone.head(features)
