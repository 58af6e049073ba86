"""3x3 convolutions of stride 1 by PyTorch, channels last, with their tangents and adjoints.

Functions along a tangent take activations a and their tangents ta as one tensor (2N, h, w, C):
first a, then ta. On the CPU most convolutions are Winograd's (winograd.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill_core.engine.kernels.blocks import ARITHMETIC, Cotangents, Values, halves


@dataclass(frozen=True)
class Direct:
    """`Convolutions` by PyTorch, in the dtype of the activations.

    Weights are converted to channels last in that dtype, if they are not already. Their gradients
    are dense, in the dtype of arithmetic.

    Args:
        padding: pixels of zeros on each side.
    """

    padding: int = 1

    def forward(self, a: Tensor, weight: Tensor) -> Tensor:
        """Return z of a."""
        out = torch.ops.aten.convolution(_planes(a), _like(weight, a), None, *self._geometry())
        return _pixels(out)

    def backward(self, p: Tensor, a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of a and of the weight for the gradient p of z."""
        da, dweight = self._back(p, a, weight, [True, True, False])
        return _pixels(da), _dense(dweight)

    def backward_input(self, p: Tensor, a: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of a alone; only shape and dtype of a are read."""
        return _pixels(self._back(p, a, weight, [True, False, False])[0])

    def backward_weight(self, p: Tensor, a: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of the weight alone; only shape and dtype of the weight are read."""
        return _dense(self._back(p, a, weight, [False, True, False])[1])

    def tangent_forward(
        self, both: Tensor, weight: Tensor, tweight: Tensor, z: Tensor | None = None
    ) -> Values:
        """Return z and tz of a and ta; z if already known."""
        a, ta = halves(both)
        if z is None:
            z, tz = halves(self.forward(both, weight))
        else:
            tz = self.forward(ta, weight)
        return Values(z, tz.add_(self.forward(a, tweight)))

    def tangent_backward(
        self, qp: Tensor, both: Tensor, weight: Tensor, tweight: Tensor, P: Tensor | None = None
    ) -> tuple[Cotangents, Tensor]:
        """Return dL'/d ta and dL'/da, and dL'/d weight; P if already known."""
        (q, p), (a, ta) = halves(qp), halves(both)
        if P is None:
            back, dweight = self.backward(qp, both, weight)
            Q, P = halves(back)
        else:
            Q = self.backward_input(q, a, weight)
            dweight = self.backward_weight(qp, both, weight)
        return Cotangents(P, Q.add_(self.backward_input(p, ta, tweight))), dweight

    def _back(
        self, p: Tensor, a: Tensor, weight: Tensor, mask: list[bool]
    ) -> tuple[Tensor, Tensor]:
        da, dweight, _ = torch.ops.aten.convolution_backward(
            _planes(p), _planes(a), _like(weight, a), None, *self._geometry(), mask
        )
        return da, dweight

    def _geometry(self) -> tuple[list[int], list[int], list[int], bool, list[int], int]:
        """Stride, padding, dilation, whether transposed, output padding, groups."""
        return [1, 1], [self.padding, self.padding], [1, 1], False, [0, 0], 1


def _like(weight: Tensor, a: Tensor) -> Tensor:
    return weight.to(a.dtype, memory_format=torch.channels_last)


def _dense(dweight: Tensor) -> Tensor:
    return dweight.to(ARITHMETIC[dweight.dtype], memory_format=torch.contiguous_format)


def _planes(a: Tensor) -> Tensor:
    """(N, h, w, C) as (N, C, h, w), channels last; no copy."""
    return a.permute(0, 3, 1, 2)


def _pixels(z: Tensor) -> Tensor:
    """(N, C, h, w) as dense (N, h, w, C); no copy if it is channels last."""
    return z.permute(0, 2, 3, 1).contiguous()
