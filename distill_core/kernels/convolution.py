"""Convolutions 3x3 of stride 1 and padding 1, channels last, and their tangents and adjoints.

By Winograd's algorithm (`winograd.h`), about twice as fast as PyTorch's direct one in float32. In
bfloat16 Winograd is too coarse: such activations are convolved by PyTorch where the processor
multiplies bfloat16 itself, and else in float32. A tangent sees both activations a and their
tangents ta as one tensor (2N, h, w, C): first a, then ta.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill_core.kernels.blocks import Cotangents, Values
from distill_core.kernels.native import call, library

_GEOMETRY = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)  # stride, padding, dilation, ..., groups


def forward(a: Tensor, weight: Tensor) -> Tensor:
    """Return z (N, h, w, C) of a (N, h, w, C0) and weight (C, C0, 3, 3)."""
    if _direct(a):
        return _convolve(a, weight)
    storage, a = a.dtype, a.to(weight.dtype)
    z = a.new_empty(*a.shape[:3], len(weight))
    _call("winograd_forward", a, weight, a, weight, z)
    return z.to(storage)


def backward(p: Tensor, a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of a and of the weight for the gradient p (N, h, w, C) of z."""
    if _direct(a):
        return _convolve_back(p, a, weight)
    storage, p, a = a.dtype, p.to(weight.dtype), a.to(weight.dtype)
    da, dweight = torch.empty_like(a), torch.empty_like(weight)
    _call("winograd_backward", a, weight, p, a, weight, da, dweight)
    return da.to(storage), dweight


def tangent_forward(
    both: Tensor, weight: Tensor, tweight: Tensor, z: Tensor | None = None
) -> Values:
    """Return z and tz = W * ta + tW * a, of a and ta (2N, h, w, C0); z may be known already."""
    if _direct(both):
        a, ta = halves(both)
        if z is None:
            z, tz = halves(_convolve(both, weight))
        else:
            tz = _convolve(ta, weight)
        return Values(z, tz.add_(_convolve(a, tweight)))
    storage, (a, ta) = both.dtype, halves(both.to(weight.dtype))
    tz, out = a.new_empty(*a.shape[:3], len(weight)), None
    if z is None:
        z = out = torch.empty_like(tz)
    _call("winograd_tangent_forward", a, weight, a, ta, weight, tweight, out, tz)
    return Values(z.to(storage), tz.to(storage))


def tangent_backward(
    qp: Tensor, both: Tensor, weight: Tensor, tweight: Tensor, P: Tensor | None = None
) -> tuple[Cotangents, Tensor]:
    """Return dL'/d ta and dL'/da, and dL'/d weight.

    Args:
        qp: q = dL'/dz and p = dL'/d tz as one tensor (2N, h, w, C).
        both: a and ta (2N, h, w, C0).
        weight: (C, C0, 3, 3).
        tweight: its tangent.
        P: dL'/d ta (N, h, w, C0), the gradient of a plain pass, where it is known already.
    """
    if _direct(both):
        (q, p), (a, ta) = halves(qp), halves(both)
        if P is None:
            back, dweight = _convolve_back(qp, both, weight)
            Q, P = halves(back)
        else:
            Q = _convolve_back_input(q, a, weight)
            dweight = _convolve_back_weight(qp, both, weight)
        return Cotangents(P, Q.add_(_convolve_back_input(p, ta, tweight))), dweight
    storage = both.dtype
    (q, p), (a, ta) = halves(qp.to(weight.dtype)), halves(both.to(weight.dtype))
    Q, dweight, out = torch.empty_like(a), torch.empty_like(weight), None
    if P is None:
        P = out = torch.empty_like(a)
    _call("winograd_tangent_backward", a, weight, q, p, a, ta, weight, tweight, Q, out, dweight)
    return Cotangents(P.to(storage), Q.to(storage)), dweight


def halves(both: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second half of a batch, as views."""
    half = len(both) // 2
    return both[:half], both[half:]


def _direct(a: Tensor) -> bool:
    return a.dtype == torch.bfloat16 and multiplies_bfloat16()


def multiplies_bfloat16() -> bool:
    """Say whether this processor multiplies bfloat16 itself."""
    return bool(library().multiplies_bfloat16())


def _call(name: str, a: Tensor, weight: Tensor, *arrays: Tensor | None) -> None:
    """Call a function of winograd.h, for the sizes of `a` (N, h, w, C0) and `weight`."""
    n, h, w, inputs = a.shape
    call(name, weight.dtype, n, h, w, inputs, len(weight), *arrays)


def _convolve(a: Tensor, weight: Tensor) -> Tensor:
    out = torch.ops.aten.convolution(_planes(a), _like(weight, a), None, *_GEOMETRY)
    return _pixels(out)


def _convolve_back(p: Tensor, a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    da, dweight, _ = torch.ops.aten.convolution_backward(
        _planes(p), _planes(a), _like(weight, a), None, *_GEOMETRY, [True, True, False]
    )
    return _pixels(da), dweight


def _convolve_back_input(p: Tensor, a: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the input alone; of a only shape and type are read."""
    da, _, _ = torch.ops.aten.convolution_backward(
        _planes(p), _planes(a), _like(weight, a), None, *_GEOMETRY, [True, False, False]
    )
    return _pixels(da)


def _convolve_back_weight(p: Tensor, a: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the weight alone, of which only shape and type are read."""
    dweight: Tensor = torch.ops.aten.convolution_backward(
        _planes(p), _planes(a), _like(weight, a), None, *_GEOMETRY, [False, True, False]
    )[1]
    return dweight


def _like(weight: Tensor, a: Tensor) -> Tensor:
    return weight.to(a.dtype, memory_format=torch.channels_last)


def _planes(a: Tensor) -> Tensor:
    """(N, h, w, C) as (N, C, h, w), channels last; no copy."""
    return a.permute(0, 3, 1, 2)


def _pixels(z: Tensor) -> Tensor:
    """(N, C, h, w) as dense (N, h, w, C); no copy where it is channels last."""
    return z.permute(0, 2, 3, 1).contiguous()
