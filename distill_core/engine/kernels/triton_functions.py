"""The functions between a ConvNet's convolutions on CUDA, one Triton kernel each.

Importing this module needs Triton, which comes with PyTorch's CUDA wheels. Triton compiles a kernel
on first use, for each shape and dtype of a network, and keeps it in its own cache.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from distill_core.engine.kernels import triton_kernels as kernels
from distill_core.engine.kernels.blocks import (
    ARITHMETIC,
    EPSILON,
    Cotangents,
    Norm,
    Values,
    halves,
)
from distill_core.engine.kernels.torch_functions import Functions

# A program reads at least 64 bytes of each pixel, the size of a memory access, and each thread 16.
# Programs are small, so that the planes of all running ones stay in the cache between passes.
PIXEL_BYTES = 64
THREAD_BYTES = 16
PIXELS = 64
# Fused multiplications and additions, as measured; from Triton 3.10 on its default is otherwise.
COMPILER = {"enable_fp_fusion": True}
_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}


def settings(z: Tensor) -> dict[str, Any]:
    """Return a kernel's constants and number of warps, for planes like those of z (N, h, w, C)."""
    _, h, w, c = z.shape
    channels = max(16, PIXEL_BYTES // z.element_size())
    pixels = min(PIXELS, triton.next_power_of_2(max(1, (h // 2) * (w // 2))))
    threads = channels * pixels * z.element_size() // THREAD_BYTES
    return {
        "H": h, "W": w, "C": c, "BC": channels, "BP": pixels, "T": _TYPES[ARITHMETIC[z.dtype]],
        "num_warps": max(1, min(8, threads // 32)),
    }  # fmt: skip


def forward(z: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Return a (N, h/2, w/2, C), and mean and rate (N, 2, C)."""
    n, h, w, c = z.shape
    a, stats = z.new_empty(n, h // 2, w // 2, c), _sums(z, 2)
    _launch(kernels.forward, z, *norm, a, stats, EPS=EPSILON)
    return a, stats


def backward(z: Tensor, norm: Norm, stats: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """Return p, and the gradients of the norm by image."""
    p, sums = torch.empty_like(z), _sums(z, 2)
    _launch(kernels.backward, z, *norm, stats, P, p, sums)
    return p, sums


def tangent_forward(values: Values, norm: Norm, tangent: Norm) -> tuple[Tensor, Tensor]:
    """Return a and ta (2N, h/2, w/2, C), and mean, rate, tmean and slope (N, 4, C)."""
    n, h, w, c = values.z.shape
    both, stats = values.z.new_empty(2 * n, h // 2, w // 2, c), _sums(values.z, 4)
    _launch(kernels.tangent_forward, *values, *norm, *tangent, *halves(both), stats, EPS=EPSILON)
    return both, stats


def tangent_backward(
    values: Values, norm: Norm, tangent: Norm, stats: Tensor, above: Cotangents
) -> tuple[Tensor, Tensor]:
    """Return q and p (2N, h, w, C), and dL'/d of the norm by image."""
    n, h, w, c = values.z.shape
    qp, sums = values.z.new_empty(2 * n, h, w, c), _sums(values.z, 2)
    _launch(kernels.tangent_backward, *values, *norm, tangent.gain, stats, *above, *halves(qp),
            sums)  # fmt: skip
    return qp, sums


def cross_entropy(logits: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient in the logits."""
    losses, dlogits = logits.new_empty(len(logits)), torch.empty_like(logits)
    _by_row(kernels.cross_entropy, scale, logits, labels.contiguous(), losses, dlogits)
    return losses.sum(), dlogits


def tangent_cross_entropy(
    logits: Tensor, tlogits: Tensor, labels: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL'/d tlogits, dL'/d logits and dL'/d labels."""
    found = (torch.empty_like(logits), torch.empty_like(logits), torch.empty_like(logits))
    _by_row(kernels.tangent_cross_entropy, scale, logits, tlogits, labels.contiguous(), *found)
    return found


FUSED = Functions(
    forward, backward, tangent_forward, tangent_backward, cross_entropy, tangent_cross_entropy
)


def _sums(z: Tensor, rows: int) -> Tensor:
    return z.new_empty(len(z), rows, z.shape[-1], dtype=ARITHMETIC[z.dtype])


def _launch(kernel: Any, z: Tensor, *tensors: Tensor, **constants: float) -> None:
    """Run one program per image and block of channels."""
    constants |= settings(z)
    programs = len(z) * triton.cdiv(z.shape[-1], constants["BC"])
    _run(kernel, programs, z, *tensors, **constants)


def _by_row(kernel: Any, scale: float, logits: Tensor, *tensors: Tensor) -> None:
    """Run one program per image.

    The kernel gets the whole number 1 / `scale`: `scale` itself would be rounded to float32.
    """
    n, k = logits.shape
    constants = {"K": k, "BK": triton.next_power_of_2(k), "num_warps": 1}
    _run(kernel, n, logits, *tensors, round(1 / scale), **constants)


def _run(kernel: Any, programs: int, first: Tensor, *rest: Tensor | int, **constants: Any) -> None:
    for given in (first, *rest):
        if isinstance(given, Tensor) and not given.is_contiguous():
            raise ValueError("the Triton kernels need dense tensors")
    if programs:
        with torch.cuda.device(first.get_device()):  # Triton launches on the current device
            kernel[(programs,)](first, *rest, **constants, **COMPILER)
