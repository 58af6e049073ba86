"""The functions between a ConvNet's convolutions, in PyTorch's operations, on any device.

Equations and letters are those of `blocks.h`. They are the reference for the fused kernels in
`triton_functions.py`, which have the same signatures. Statistics and sums here are (N, ., C).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from distill_core.engine.kernels.blocks import ARITHMETIC, EPSILON, Cotangents, Norm, Values


class Functions(NamedTuple):
    """Norm, ReLU and mean: forward, backward and along a tangent; and the loss on top.

    Each can be one kernel. Signatures are those of `Blocks`, except that gradients of a norm are
    sums per image, (N, 2, C).
    """

    forward: Callable[[Tensor, Norm], tuple[Tensor, Tensor]]
    backward: Callable[[Tensor, Norm, Tensor, Tensor], tuple[Tensor, Tensor]]
    tangent_forward: Callable[[Values, Norm, Norm], tuple[Tensor, Tensor]]
    tangent_backward: Callable[[Values, Norm, Norm, Tensor, Cotangents], tuple[Tensor, Tensor]]
    cross_entropy: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
    tangent_cross_entropy: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]


def forward(z: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Return a (N, h/2, w/2, C), and mean and rate (N, 2, C)."""
    wide = z.to(ARITHMETIC[z.dtype])
    mean, rate = _statistics(wide)
    u = norm.gain * _normed(wide, mean, rate) + norm.bias
    return _pooled(u.relu()).to(z.dtype), torch.stack([mean, rate], 1)


def backward(z: Tensor, norm: Norm, stats: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """Return p, and the gradients of the norm by image."""
    wide = z.to(ARITHMETIC[z.dtype])
    mean, rate = stats.unbind(1)
    x = _normed(wide, mean, rate)
    d = _spread(P, z) * (norm.gain * x + norm.bias > 0)
    on_x = norm.gain * d
    p = rate[:, None, None] * (on_x - _mean(on_x) - _mean(on_x * x) * x)
    return p.to(z.dtype), torch.stack([(d * x).sum((1, 2)), d.sum((1, 2))], 1)


def tangent_forward(values: Values, norm: Norm, tangent: Norm) -> tuple[Tensor, Tensor]:
    """Return a and ta (2N, h/2, w/2, C), and mean, rate, tmean and slope (N, 4, C)."""
    z, tz = (tensor.to(ARITHMETIC[tensor.dtype]) for tensor in values)
    mean, rate = _statistics(z)
    x = _normed(z, mean, rate)
    tmean, slope = tz.mean((1, 2)), (x * tz).mean((1, 2))
    tx = _tangent_normed(x, tz, rate, tmean, slope)
    u = norm.gain * x + norm.bias
    tu = tangent.gain * x + norm.gain * tx + tangent.bias
    both = torch.cat([_pooled(u.relu()), _pooled(tu * (u > 0))])
    return both.to(values.z.dtype), torch.stack([mean, rate, tmean, slope], 1)


def tangent_backward(
    values: Values, norm: Norm, tangent: Norm, stats: Tensor, above: Cotangents
) -> tuple[Tensor, Tensor]:
    """Return q and p (2N, h, w, C), and dL'/d of the norm by image."""
    z, tz = (tensor.to(ARITHMETIC[tensor.dtype]) for tensor in values)
    mean, rate, tmean, slope = stats.unbind(1)
    x = _normed(z, mean, rate)
    tx = _tangent_normed(x, tz, rate, tmean, slope)
    live = norm.gain * x + norm.bias > 0
    d, e = (_spread(each, z) * live for each in above)
    on_x = norm.gain * d
    rate, slope = rate[:, None, None], slope[:, None, None]
    k = _mean(on_x * x)
    p = rate * (on_x - _mean(on_x) - k * x)
    E = norm.gain * e + (tangent.gain - rate * slope * norm.gain) * d - rate * k * tz
    q = rate * (E - _mean(E) - x * (_mean(E * x) + _mean(on_x * tx)))
    sums = torch.stack([(e * x + d * tx).sum((1, 2)), e.sum((1, 2))], 1)
    return torch.cat([q, p]).to(values.z.dtype), sums


def cross_entropy(logits: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient in the logits."""
    log_probabilities = torch.log_softmax(logits, 1)
    mass = labels.sum(1, keepdim=True)
    dlogits = (mass * log_probabilities.exp() - labels) * scale
    return -(labels * log_probabilities).sum() * scale, dlogits


def tangent_cross_entropy(
    logits: Tensor, tlogits: Tensor, labels: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL'/d tlogits, dL'/d logits and dL'/d labels."""
    probabilities = torch.softmax(logits, 1)
    mass = labels.sum(1, keepdim=True)
    expected = (probabilities * tlogits).sum(1, keepdim=True)
    dlabels = (expected - tlogits) * scale
    dtlogits = (mass * probabilities - labels) * scale
    dlogits = mass * probabilities * (tlogits - expected) * scale
    return dtlogits, dlogits, dlabels


PLAIN = Functions(
    forward, backward, tangent_forward, tangent_backward, cross_entropy, tangent_cross_entropy
)


def compiled() -> Functions:
    """Return the same functions by torch.compile, for comparisons only."""
    return Functions._make(torch.compile(each, dynamic=False, fullgraph=True) for each in PLAIN)


def _statistics(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and rate, (N, C) each."""
    variance, mean = torch.var_mean(z, (1, 2), correction=0)
    return mean, (variance + EPSILON).rsqrt()


def _normed(z: Tensor, mean: Tensor, rate: Tensor) -> Tensor:
    return rate[:, None, None] * (z - mean[:, None, None])


def _tangent_normed(x: Tensor, tz: Tensor, rate: Tensor, tmean: Tensor, slope: Tensor) -> Tensor:
    return rate[:, None, None] * (tz - tmean[:, None, None] - slope[:, None, None] * x)


def _mean(plane: Tensor) -> Tensor:
    return plane.mean((1, 2), keepdim=True)


def _pooled(u: Tensor) -> Tensor:
    """Mean of 2x2 pixels; leaves out the last row or column of an odd size."""
    n, h, w, c = u.shape
    even = u[:, : h // 2 * 2, : w // 2 * 2]
    return even.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def _spread(P: Tensor, z: Tensor) -> Tensor:
    """The adjoint of `_pooled`: a quarter to each of 2x2 pixels, zero to the rest of z."""
    (n, ph, pw, c), (_, h, w, _) = P.shape, z.shape
    quarter = P.to(ARITHMETIC[P.dtype]) / 4
    pixels = quarter[:, :, None, :, None].expand(n, ph, 2, pw, 2, c).reshape(n, 2 * ph, 2 * pw, c)
    return pad(pixels, (0, 0, 0, w - 2 * pw, 0, h - 2 * ph))
