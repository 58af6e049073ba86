"""Which blocks a device has."""

from __future__ import annotations

import torch

from distill_core.kernels.blocks import Blocks
from distill_core.kernels.c_blocks import CBlocks
from distill_core.kernels.fused import fused
from distill_core.kernels.native import library
from distill_core.kernels.torch_blocks import TorchBlocks


def check(device: torch.device) -> None:
    """Find out whether there are kernels for a device that are faster than autograd.

    Raises:
        Unavailable: there are none, and why.
    """
    if device.type == "cpu":
        library()
    else:
        fused(device)


def blocks_for(device: torch.device, storage: torch.dtype) -> Blocks:
    """Return the fastest blocks that a device has.

    Args:
        device: where activations and parameters are; any, also "meta".
        storage: type of activations.

    Raises:
        Unavailable: those of a CPU or of CUDA cannot be used here.
    """
    if device.type == "cpu":
        return CBlocks(storage)
    return TorchBlocks(storage, fused(device)) if device.type == "cuda" else TorchBlocks(storage)
