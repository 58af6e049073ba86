"""Choose the blocks for a device."""

from __future__ import annotations

import torch

from distill_core.engine.kernels.blocks import Blocks
from distill_core.engine.kernels.c_blocks import CBlocks
from distill_core.engine.kernels.fused import fused
from distill_core.engine.kernels.native import library
from distill_core.engine.kernels.torch_blocks import TorchBlocks


def check(device: torch.device) -> None:
    """Check that a device has kernels that are faster than autograd.

    Raises:
        Unavailable: it has none; the message says why.
    """
    if device.type == "cpu":
        library()
    else:
        fused(device)


def blocks_for(device: torch.device, storage: torch.dtype) -> Blocks:
    """Return the fastest blocks that a device has.

    Args:
        device: where activations and parameters are; any, also "meta".
        storage: dtype of activations.

    Raises:
        Unavailable: the blocks for the CPU or for CUDA cannot be used here.
    """
    if device.type == "cpu":
        return CBlocks(storage)
    return TorchBlocks(storage, fused(device)) if device.type == "cuda" else TorchBlocks(storage)
