"""ConvNet blocks on the CPU: each calls one C function of `blocks.h` or `first.h`."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from distill_core.engine.kernels.blocks import (
    ARITHMETIC,
    EPSILON,
    Cotangents,
    Layer,
    Norm,
    State,
    Values,
)
from distill_core.engine.kernels.native import Argument, call, library
from distill_core.engine.kernels.torch_functions import PLAIN
from distill_core.engine.kernels.winograd import Winograd


@dataclass(frozen=True)
class CBlocks:
    """`Blocks` on the CPU for one storage dtype. The first keeps nothing: it is computed again.

    Args:
        storage: dtype of activations and cotangents in memory.

    Raises:
        Unavailable: there is no compiled library here.
    """

    storage: torch.dtype

    def __post_init__(self) -> None:
        library()

    @property
    def arithmetic(self) -> torch.dtype:
        """Dtype of parameters, statistics and sums."""
        return ARITHMETIC[self.storage]

    @property
    def convolutions(self) -> Winograd:
        """Convolutions of all blocks except the first."""
        return Winograd()

    def weight(self, weight: Tensor) -> Tensor:
        """Return a weight as it is."""
        return weight

    def images(self, images: Tensor) -> Tensor:
        """Return images (N, C0, h, w), dense."""
        return images.contiguous()

    def forward(self, z: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        """Return a (N, h/2, w/2, C) of z (N, h, w, C), and statistics (2, N, C) for `backward`."""
        n, h, w, c = z.shape
        a = self._empty(n, h // 2, w // 2, c)
        stats = self._zeros(2, n, c)
        self._call("forward", n, h, w, c, self._eps(), z, *norm, a, stats[0], stats[1])
        return a, stats

    def backward(self, z: Tensor, norm: Norm, stats: Tensor, P: Tensor) -> tuple[Tensor, Norm]:
        """Return p (N, h, w, C), and the gradients of the norm."""
        n, h, w, c = z.shape
        p, sums = torch.empty_like(z), self._zeros(2, n, c)
        self._call("backward", n, h, w, c, z, *norm, stats[0], stats[1], P, p, sums[0], sums[1])
        return p, Norm(*sums.sum(1).unbind())

    def tangent_forward(self, values: Values, norm: Norm, tangent: Norm) -> tuple[Tensor, Tensor]:
        """Return a and ta as one tensor (2N, h/2, w/2, C), and statistics (N, 4, C)."""
        n, h, w, c = values.z.shape
        a, stats = self._empty(2 * n, h // 2, w // 2, c), self._zeros(n, 4, c)
        self._call("tangent_forward", n, h, w, c, self._eps(), *values, *norm, *tangent,
                   a[:n], a[n:], stats)  # fmt: skip
        return a, stats

    def tangent_backward(
        self, values: Values, norm: Norm, tangent: Norm, stats: Tensor, above: Cotangents
    ) -> tuple[Tensor, Norm]:
        """Return q and p as one tensor (2N, h, w, C), and dL'/d of the norm.

        Args:
            values: as for `tangent_forward`.
            norm: parameters.
            tangent: direction in the parameters.
            stats: from `tangent_forward`.
            above: cotangents of ta and a.
        """
        n, h, w, c = values.z.shape
        qp, sums = self._empty(2 * n, h, w, c), self._zeros(2, n, c)
        self._call("tangent_backward", n, h, w, c, *values, *norm, tangent.gain, stats, *above,
                   qp[n:], qp[:n], sums[0], sums[1])  # fmt: skip
        return qp, Norm(*sums.sum(1).unbind())

    def first_forward(self, images: Tensor, pad: int, layer: Layer) -> tuple[Tensor, State]:
        """Return a (N, h/2, w/2, C) of images (N, C0, h, w)."""
        a = self._first_empty(images, pad, layer.weight)
        self._first("first_forward", images, pad, layer.weight, layer.weight, *layer.norm, a)
        return a, ()

    def first_backward(
        self, images: Tensor, pad: int, layer: Layer, state: State, P: Tensor
    ) -> Layer:
        """Return the gradients of the parameters, not of the images."""
        del state
        weight, norm = layer
        dweight, sums = torch.empty_like(weight), self._zeros(2, len(images), len(weight))
        self._first("first_backward", images, pad, weight, weight, *norm, P, dweight, *sums)
        return Layer(dweight, Norm(*sums.sum(1).unbind()))

    def first_backward_to_images(
        self, images: Tensor, pad: int, layer: Layer, state: State, P: Tensor
    ) -> tuple[Layer, Tensor]:
        """Return the gradients of the parameters and of the images."""
        # Only the tangent kernel reaches the images; here its tangent is zero.
        cotangents = Cotangents(torch.zeros_like(P), P)
        return self.first_tangent_backward(
            images, pad, layer, _still(layer), state=state, above=cotangents
        )

    def first_tangent_forward(
        self, images: Tensor, pad: int, layer: Layer, tangent: Layer
    ) -> tuple[Tensor, State]:
        """Return a and ta as one tensor (2N, h/2, w/2, C); images have no tangent."""
        n, weight = len(images), layer.weight
        a = self._first_empty(images, pad, weight, copies=2)
        self._first("first_tangent_forward", images, pad, weight, weight, tangent.weight,
                    *layer.norm, *tangent.norm, a[:n], a[n:])  # fmt: skip
        return a, ()

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
        del state
        weight = layer.weight
        dweight, dimages = torch.empty_like(weight), torch.empty_like(images)
        sums = self._zeros(2, len(images), len(weight))
        self._first("first_tangent_backward", images, pad, weight, weight, tangent.weight,
                    *layer.norm, tangent.norm.gain, *above, dweight, *sums,
                    dimages)  # fmt: skip
        return Layer(dweight, Norm(*sums.sum(1).unbind())), dimages

    def cross_entropy(self, logits: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Return the loss, and its gradient in the logits."""
        return PLAIN.cross_entropy(logits, labels, scale)

    def tangent_cross_entropy(
        self, logits: Tensor, tlogits: Tensor, labels: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return dL'/d tlogits, dL'/d logits and dL'/d labels."""
        return PLAIN.tangent_cross_entropy(logits, tlogits, labels, scale)

    def _first_empty(self, images: Tensor, pad: int, weight: Tensor, copies: int = 1) -> Tensor:
        n, _, h, w = images.shape
        pooled = ((h + 2 * pad - 2) // 2, (w + 2 * pad - 2) // 2)
        return self._empty(copies * n, *pooled, len(weight))

    def _first(self, name: str, images: Tensor, pad: int, weight: Tensor, *tensors: Tensor) -> None:
        n, channels, h, w = images.shape
        self._check("images", images, channels=weight.shape[1])
        self._check("weights", weight, channels=channels)
        self._call(name, n, h, w, pad, channels, len(weight), self._eps(), images, *tensors)

    def _check(self, what: str, given: Tensor, *, channels: int) -> None:
        """Refuse tensors that the C functions, which see bare memory, would misread."""
        if given.dtype != self.arithmetic or not given.is_cpu or given.shape[1] != channels:
            found, wanted = (str(t).removeprefix("torch.") for t in (given.dtype, self.arithmetic))
            raise ValueError(
                f"the ConvNet kernels were given {what} of {given.shape[1]} channels in {found} on "
                f"{given.device.type}, where {channels} channels in {wanted} on cpu were expected"
            )

    def _call(self, name: str, *arguments: Argument) -> None:
        call(name, self.storage, *arguments)

    def _eps(self) -> ctypes.c_float | ctypes.c_double:
        number = ctypes.c_double if self.storage == torch.float64 else ctypes.c_float
        return number(EPSILON)

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.storage)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.arithmetic)


def _still(layer: Layer) -> Layer:
    """The zero direction in a block's parameters."""
    weight, norm = layer
    return Layer(torch.zeros_like(weight), Norm(*(torch.zeros_like(part) for part in norm)))
