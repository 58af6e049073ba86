"""Which blocks a device has."""

from __future__ import annotations

import torch

from distill_core.kernels.blocks import Blocks
from distill_core.kernels.c_blocks import CBlocks
from distill_core.kernels.torch_blocks import TorchBlocks


def blocks_for(device: torch.device, storage: torch.dtype) -> Blocks:
    """Return the fastest blocks that a device has.

    Args:
        device: where activations and parameters are.
        storage: type of activations.

    Raises:
        Unavailable: there is no compiled library here, on the CPU.
    """
    return CBlocks(storage) if device.type == "cpu" else TorchBlocks(storage)
