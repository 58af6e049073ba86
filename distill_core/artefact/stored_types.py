"""Numbers in fewer bits: levels between two bounds, and how they are packed into bytes.

A tensor of b bits is low + code * step with whole codes from 0 to 2**b - 1. `low` and `step` are
float32 numbers, fitted to the tensor, one pair for all of it or one for each channel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

BITS = {"uint8": 8, "uint4": 4, "uint2": 2}
SHARES = tuple(k / 20 for k in range(20, 4, -1))  # of the whole range, which are tried
FEW = 32  # numbers of a channel, below which it has no scale of its own


def bytes_of(kind: str) -> float:
    """Return how many bytes a number takes in a stored type, scales apart.

    >>> bytes_of("float32"), bytes_of("uint2")
    (4.0, 0.25)
    """
    return {"float32": 32, "bfloat16": 16, **BITS}[kind] / 8


class Scale(NamedTuple):
    """Bounds of the levels, in shapes that broadcast to the tensor."""

    low: Tensor
    step: Tensor


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return the axis whose entries have scales of their own; None: one scale for all.

    Pixels (n, C, h, w), and all tensors of four axes, have one for each entry of the second, a
    channel. Others have one for each entry of the last axis, where columns are different things.
    Entries of fewer than `FEW` numbers, and a single one, have no scale of their own.

    >>> channel_axis((1, 3, 64, 160)), channel_axis((300, 9)), channel_axis((4, 16))
    (1, 1, None)
    """
    if len(shape) < 2:
        return None
    axis = 1 if len(shape) == 4 else len(shape) - 1
    numbers = 1
    for k, side in enumerate(shape):
        numbers *= 1 if k == axis else side
    return axis if numbers >= FEW and shape[axis] > 1 else None


@torch.no_grad()
def fit(values: Tensor, bits: int, axis: int | None) -> Scale:
    """Return the scale of least squared error, of ranges that are shares of the whole one.

    Args:
        values: any shape, finite.
        bits: of a code.
        axis: whose entries have scales of their own; None: one for all.
    """
    values = values.float()
    others = [k for k in range(values.dim()) if k != axis]  # none: a number is its own mean
    mean = values.mean(others, keepdim=True)
    under = mean - values.amin(others, keepdim=True)
    over = values.amax(others, keepdim=True) - mean
    levels = 2**bits - 1
    best, least = None, None
    for share in SHARES:
        step = share * (under + over) / levels
        tried = Scale(mean - share * under, torch.where(step > 0, step, 1))
        error = (quantised(values, tried, bits) - values).square().sum(others, keepdim=True)
        if best is None or least is None:
            best, least = tried, error
        else:
            better = error < least
            least = torch.where(better, error, least)
            best = Scale(*(torch.where(better, a, b) for a, b in zip(tried, best, strict=True)))
    assert best is not None
    return best


def codes(values: Tensor, scale: Scale, bits: int) -> Tensor:
    """Return the nearest level of every number, a whole number in the type of `values`."""
    return ((values - scale.low) / scale.step).round().clamp(0, 2**bits - 1)


def quantised(values: Tensor, scale: Scale, bits: int) -> Tensor:
    """Return every number at its nearest level."""
    return scale.low + codes(values, scale, bits) * scale.step


def quantised_by(values: Tensor, scale: Scale, bits: int) -> Tensor:
    """Return every number at its nearest level, differentiable in numbers, `low` and `step`.

    With u = (x - low) / step the derivative in `step` is round(u) - u between the bounds, and the
    outermost code outside; that in x is 1 between them and 0 outside, and that in `low` the rest
    of 1. Source: LSQ, Esser et al. 2020 (arXiv:1902.08153), equations 3 and 5, of x - low.
    """
    place = ((values - scale.low) / scale.step).clamp(0, 2**bits - 1)
    code = place + (place.round() - place).detach()  # exactly the code: the difference is exact
    return scale.low + code * scale.step


def damped(values: Tensor, factor: float) -> Tensor:
    """Return the same values, whose gradient is multiplied by a factor."""
    return values.detach() + (values - values.detach()) * factor


def pack(whole: Tensor, bits: int) -> Tensor:
    """Pack codes of any shape into bytes (uint8), the first one in the lowest bits.

    >>> pack(torch.tensor([1, 2, 3, 0, 1]), 2).tolist()
    [57, 1]
    """
    each = 8 // bits
    flat = whole.flatten().to(torch.int32)
    rows = functional.pad(flat, (0, -len(flat) % each)).view(-1, each)
    return (rows << _shifts(bits)).sum(1).to(torch.uint8)


def unpack(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """Return what `pack` was given, (shape) uint8."""
    rows = packed.to(torch.int32)[:, None] >> _shifts(bits)
    count = torch.Size(shape).numel()
    whole: Tensor = (rows & (2**bits - 1)).flatten()[:count]
    return whole.view(shape).to(torch.uint8)


def _shifts(bits: int) -> Tensor:
    return torch.arange(0, 8, bits, dtype=torch.int32)
