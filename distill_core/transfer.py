"""How tensors reach the device: without the host waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a copy to CUDA is queued, and the host goes on at once.

    A plain `tensor.to(device)` reads pageable memory, for which the host waits until all work
    queued before has run. From pinned memory the copy is one more piece of queued work.

    Args:
        tensor: any; on the CPU it may be changed or freed as soon as this returns, unless it was
            pinned before.
        device: where it goes.

    Returns:
        The same tensor if it is there already, as all are where the device is the CPU.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    # The pinned block outlives its tensor for as long as it must: the copy records an event on
    # its stream with PyTorch's caching host allocator, which hands the block out again only once
    # that event has come. Elsewhere (MPS) nothing promises that, so only CUDA copies do not wait.
    return tensor.pin_memory().to(device, non_blocking=True)
