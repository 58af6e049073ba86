"""Find out, once and by a trial, whether the fused kernels run on a CUDA device."""

from __future__ import annotations

import functools
import math
import os

import torch
from torch import Tensor

from distill_core.engine.kernels.blocks import Cotangents, Norm, Values
from distill_core.engine.kernels.native import Unavailable
from distill_core.engine.kernels.torch_functions import PLAIN, Functions
from distill_core.system.out_of_memory import is_out_of_memory

OLDEST = (7, 0)  # compute capability, of Triton
BFLOAT16 = (8, 0)
_AUTOGRAD = "leave it: runs go by autograd, which is slower"


def fused(device: torch.device) -> Functions:
    """Return the fused functions between convolutions for a CUDA device.

    Raises:
        Unavailable: Triton is missing or cannot compile, the card is too old for it, or the
            environment variable DISTILL_KERNELS is "off".
    """
    if os.environ.get("DISTILL_KERNELS") == "off":
        raise Unavailable("DISTILL_KERNELS is off", next="unset DISTILL_KERNELS")
    found = outcome(device)
    if isinstance(found, Unavailable):
        raise Unavailable(str(found), next=found.next)
    return found


@functools.cache
def outcome(device: torch.device) -> Functions | Unavailable:
    """Return the functions, or why there are none; cached, because compiling takes seconds."""
    try:
        return _tried(device)
    except Unavailable as error:
        return error


def _tried(device: torch.device) -> Functions:
    if not torch.cuda.is_available():
        raise Unavailable("there is no CUDA device", next="choose another --device")
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        name = torch.cuda.get_device_name(device)
        why = f"Triton knows no card as old as {name}, of compute capability {_dots(capability)}"
        raise Unavailable(why, next=_AUTOGRAD)
    try:
        from distill_core.engine.kernels.triton_functions import FUSED
    except ImportError as error:
        advice = "install PyTorch's CUDA build for Linux, which brings Triton"
        raise Unavailable("there is no Triton", next=advice) from error
    try:
        right = _is_right(FUSED, device)
    except Exception as error:  # of Triton, its launcher's compiler, or the driver: all mean no
        if is_out_of_memory(error):
            raise  # not a fault of the kernels
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        advice = "install a C compiler, for example gcc, which Triton needs, or update the driver"
        raise Unavailable(f"Triton's kernels do not run: {reason}", next=advice) from error
    if not right:
        raise Unavailable("Triton's kernels give wrong numbers", next="update PyTorch and Triton")
    return FUSED


def _is_right(functions: Functions, device: torch.device) -> bool:
    """Say whether all functions agree with the reference in a small trial."""
    storages = [torch.float32]
    if torch.cuda.get_device_capability(device) >= BFLOAT16:
        storages.append(torch.bfloat16)
    return all(agrees(functions, device, storage) for storage in storages)


def agrees(functions: Functions, device: torch.device, storage: torch.dtype) -> bool:
    """Say whether all functions agree with the reference on a few numbers.

    Args:
        functions: to try.
        device: where to run them.
        storage: dtype of activations.
    """
    n, h, w, c, k = 2, 5, 4, 20, 3

    def some(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        steps = torch.arange(math.prod(shape), device=device, dtype=torch.float32)
        return (1.7 * steps + len(shape)).sin().view(shape).to(dtype)

    norm, tangent = Norm(1 + some(c), some(c)), Norm(some(c).flip(0), some(c))
    z, tz = some(n, h, w, c, dtype=storage), some(n, h, w, c, dtype=storage).flip(0)
    above = some(n, h // 2, w // 2, c, dtype=storage)
    values, both = Values(z, tz), Cotangents(above, above.flip(0))
    logits, tlogits = some(n, k), some(n, k).flip(1)
    labels = torch.softmax(some(n, k), 1)
    stats = PLAIN.forward(z, norm)[1]
    tangent_stats = PLAIN.tangent_forward(values, norm, tangent)[1]
    outcomes = [
        (
            *each.forward(z, norm),
            *each.backward(z, norm, stats, above),
            *each.tangent_forward(values, norm, tangent),
            *each.tangent_backward(values, norm, tangent, tangent_stats, both),
            *each.cross_entropy(logits, labels, 0.5),
            *each.tangent_cross_entropy(logits, tlogits, labels, 0.5),
        )
        for each in (functions, PLAIN)
    ]
    most = 1e-3 if storage == torch.float32 else 5e-2
    return all(
        torch.allclose(found.float(), wanted.float(), rtol=most, atol=most)
        for found, wanted in zip(*outcomes, strict=True)
    )


def _dots(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
