"""The interface of a ConvNet's blocks; each kind of device implements it.

A block is a 3x3 convolution, instance norm, ReLU and 2x2 mean. Activations are (N, h, w, C), dense,
in the storage dtype (float32, float64 or bfloat16). Parameters and statistics are in the dtype of
arithmetic (float32 for bfloat16). Letters as in `blocks.h`: z is the convolution's output, a the
block's, t marks a tangent; P = dL'/d ta, Q = dL'/da, p = dL'/d tz, q = dL'/dz.

`CBlocks` (c_blocks.py) serve the CPU. `TorchBlocks` (torch_blocks.py) serve any device: with
PyTorch's operations they are the reference, with Triton (triton_functions.py) they run on CUDA.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

ARITHMETIC = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.bfloat16: torch.float32,
}
EPSILON = 1e-5  # of PyTorch's norms


class Norm(NamedTuple):
    """Scale and shift of a norm, (C,) each; also their gradients and tangents."""

    gain: Tensor
    bias: Tensor


class Layer(NamedTuple):
    """A block's parameters, in the dtype of arithmetic; also their gradients and tangents.

    Attributes:
        weight: (C, C0, 3, 3), C0 channels below.
        norm: after the convolution.
    """

    weight: Tensor
    norm: Norm


class Values(NamedTuple):
    """A convolution's output z (N, h, w, C), and its tangent tz."""

    z: Tensor
    tz: Tensor


class Cotangents(NamedTuple):
    """P = dL'/d ta and Q = dL'/da, (N, h, w, C) each."""

    P: Tensor
    Q: Tensor


State = tuple[Tensor, ...]  # what a block keeps from the forward to the backward pass


class Convolutions(Protocol):
    """Convolutions 3x3 of stride 1 and padding 1, their tangents and adjoints."""

    def forward(self, a: Tensor, weight: Tensor) -> Tensor:
        """Return z (N, h, w, C) of a (N, h, w, C0) and weight (C, C0, 3, 3)."""
        ...

    def backward(self, p: Tensor, a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of a and of the weight for the gradient p (N, h, w, C) of z."""
        ...

    def tangent_forward(
        self, both: Tensor, weight: Tensor, tweight: Tensor, z: Tensor | None = None
    ) -> Values:
        """Return z and tz = W * ta + tW * a, from a and ta (2N, h, w, C0); z if already known."""
        ...

    def tangent_backward(
        self, qp: Tensor, both: Tensor, weight: Tensor, tweight: Tensor, P: Tensor | None = None
    ) -> tuple[Cotangents, Tensor]:
        """Return dL'/d ta and dL'/da, and dL'/d weight.

        Args:
            qp: q = dL'/dz and p = dL'/d tz as one tensor (2N, h, w, C).
            both: a and ta (2N, h, w, C0).
            weight: (C, C0, 3, 3).
            tweight: its tangent.
            P: dL'/d ta (N, h, w, C0), the gradient of a plain pass, if already known.
        """
        ...


class Blocks(Protocol):
    """The blocks for one storage dtype on one kind of device.

    The first block is a function of the images. It returns what its backward pass needs as a state,
    which may be empty. Later blocks are a convolution and four functions of its output z.
    """

    @property
    def storage(self) -> torch.dtype:
        """Dtype of activations and cotangents in memory."""
        ...

    @property
    def arithmetic(self) -> torch.dtype:
        """Dtype of parameters, statistics and sums."""
        ...

    @property
    def convolutions(self) -> Convolutions:
        """Convolutions of all blocks except the first."""
        ...

    def weight(self, weight: Tensor) -> Tensor:
        """Return a convolution's weight, or its tangent, in the layout that is read fastest."""
        ...

    def images(self, images: Tensor) -> Tensor:
        """Return images (N, C0, h, w) in the layout that the functions below take."""
        ...

    def forward(self, z: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        """Return a (N, h/2, w/2, C) of z (N, h, w, C), and statistics for `backward`."""
        ...

    def backward(self, z: Tensor, norm: Norm, stats: Tensor, P: Tensor) -> tuple[Tensor, Norm]:
        """Return p (N, h, w, C), and the gradients of the norm."""
        ...

    def tangent_forward(self, values: Values, norm: Norm, tangent: Norm) -> tuple[Tensor, Tensor]:
        """Return a and ta as one tensor (2N, h/2, w/2, C), and statistics for
        `tangent_backward`."""
        ...

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
        ...

    def first_forward(self, images: Tensor, pad: int, layer: Layer) -> tuple[Tensor, State]:
        """Return a (N, h/2, w/2, C) of images from `images`, and the state for the backward
        pass."""
        ...

    def first_backward(
        self, images: Tensor, pad: int, layer: Layer, state: State, P: Tensor
    ) -> Layer:
        """Return the gradients of the parameters, not of the images."""
        ...

    def first_backward_to_images(
        self, images: Tensor, pad: int, layer: Layer, state: State, P: Tensor
    ) -> tuple[Layer, Tensor]:
        """Return the gradients of the parameters, and of the images (N, C0, h, w)."""
        ...

    def first_tangent_forward(
        self, images: Tensor, pad: int, layer: Layer, tangent: Layer
    ) -> tuple[Tensor, State]:
        """Return a and ta as one tensor (2N, h/2, w/2, C), and the state for the backward pass.

        The images have no tangent.
        """
        ...

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
        """Return dL'/d of the parameters and of the images (N, C0, h, w)."""
        ...

    def cross_entropy(self, logits: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Return the loss, a scalar, and its gradient in the logits.

        Args:
            logits: (N, K), in the dtype of arithmetic.
            labels: (N, K), soft; rows need not sum to 1.
            scale: one over the number of images of the whole batch.
        """
        ...

    def tangent_cross_entropy(
        self, logits: Tensor, tlogits: Tensor, labels: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return dL'/d tlogits, dL'/d logits and dL'/d labels, (N, K) each."""
        ...


def halves(both: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second half of a batch, as views."""
    half = len(both) // 2
    return both[:half], both[half:]
