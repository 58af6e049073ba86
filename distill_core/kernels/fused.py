"""Whether the fused kernels run on a CUDA device, found out once by a trial."""

from __future__ import annotations

import functools
import os

import torch

from distill_core.kernels.blocks import Norm
from distill_core.kernels.native import Unavailable
from distill_core.kernels.torch_functions import PLAIN, Functions

OLDEST = (7, 0)  # compute capability, of Triton
_AUTOGRAD = "leave it: runs go by autograd, which is slower"


def fused(device: torch.device) -> Functions:
    """Return the functions between convolutions as they run fastest on a CUDA device.

    Raises:
        Unavailable: there is no Triton, or it cannot compile, or the card is too old for it, or the
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
    """Return the functions, or why there are none; found out once, as compiling takes seconds."""
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
        from distill_core.kernels.triton_functions import FUSED
    except ImportError as error:
        advice = "install PyTorch's CUDA build for Linux, which brings Triton"
        raise Unavailable("there is no Triton", next=advice) from error
    try:
        right = _is_right(FUSED, device)
    except Exception as error:  # of Triton, its launcher's compiler, or the driver: all mean no
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        advice = "install a C compiler, for example gcc, which Triton needs, or update the driver"
        raise Unavailable(f"Triton's kernels do not run: {reason}", next=advice) from error
    if not right:
        raise Unavailable("Triton's kernels give wrong numbers", next="update PyTorch and Triton")
    return FUSED


def _is_right(functions: Functions, device: torch.device) -> bool:
    """Say whether a small trial has the outcome of the reference."""
    z = torch.linspace(-1, 1, 5 * 4 * 3, device=device).view(1, 5, 4, 3)
    norm = Norm(torch.ones(3, device=device), torch.full((3,), 0.5, device=device))
    found, wanted = (each.forward(z, norm)[0] for each in (functions, PLAIN))
    return torch.allclose(found, wanted, atol=1e-4)


def _dots(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
