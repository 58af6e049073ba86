"""3x3 convolutions of padding 1 on the CPU by Winograd's algorithm, channels last.

`winograd.h` is about twice as fast as PyTorch's direct convolution in float32. In bfloat16 Winograd
is too inexact. Such activations are convolved by PyTorch if the processor multiplies bfloat16
itself, otherwise in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill_core.engine.kernels.blocks import Cotangents, Values, halves
from distill_core.engine.kernels.convolution import Direct
from distill_core.engine.kernels.native import call, library


class Winograd:
    """`Convolutions` by the C functions."""

    def forward(self, a: Tensor, weight: Tensor) -> Tensor:
        """Return z of a."""
        if _direct(a):
            return Direct().forward(a, weight)
        storage, a = a.dtype, a.to(weight.dtype)
        z = a.new_empty(*a.shape[:3], len(weight))
        _call("winograd_forward", a, weight, a, weight, z)
        return z.to(storage)

    def backward(self, p: Tensor, a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of a and of the weight for the gradient p of z."""
        if _direct(a):
            return Direct().backward(p, a, weight)
        storage, p, a = a.dtype, p.to(weight.dtype), a.to(weight.dtype)
        da, dweight = torch.empty_like(a), torch.empty_like(weight)
        _call("winograd_backward", a, weight, p, a, weight, da, dweight)
        return da.to(storage), dweight

    def tangent_forward(
        self, both: Tensor, weight: Tensor, tweight: Tensor, z: Tensor | None = None
    ) -> Values:
        """Return z and tz of a and ta; z if already known."""
        if _direct(both):
            return Direct().tangent_forward(both, weight, tweight, z)
        storage, (a, ta) = both.dtype, halves(both.to(weight.dtype))
        tz, out = a.new_empty(*a.shape[:3], len(weight)), None
        if z is None:
            z = out = torch.empty_like(tz)
        _call("winograd_tangent_forward", a, weight, a, ta, weight, tweight, out, tz)
        return Values(z.to(storage), tz.to(storage))

    def tangent_backward(
        self, qp: Tensor, both: Tensor, weight: Tensor, tweight: Tensor, P: Tensor | None = None
    ) -> tuple[Cotangents, Tensor]:
        """Return dL'/d ta and dL'/da, and dL'/d weight; P if already known."""
        if _direct(both):
            return Direct().tangent_backward(qp, both, weight, tweight, P)
        storage = both.dtype
        (q, p), (a, ta) = halves(qp.to(weight.dtype)), halves(both.to(weight.dtype))
        Q, dweight, out = torch.empty_like(a), torch.empty_like(weight), None
        if P is None:
            P = out = torch.empty_like(a)
        _call("winograd_tangent_backward", a, weight, q, p, a, ta, weight, tweight, Q, out, dweight)
        return Cotangents(P.to(storage), Q.to(storage)), dweight


def multiplies_bfloat16() -> bool:
    """Say whether this processor multiplies bfloat16 itself."""
    return bool(library().multiplies_bfloat16())


def _direct(a: Tensor) -> bool:
    return a.dtype == torch.bfloat16 and multiplies_bfloat16()


def _call(name: str, a: Tensor, weight: Tensor, *arrays: Tensor | None) -> None:
    """Call a function of winograd.h, for the sizes of `a` (N, h, w, C0) and `weight`."""
    n, h, w, inputs = a.shape
    call(name, weight.dtype, n, h, w, inputs, len(weight), *arrays)
