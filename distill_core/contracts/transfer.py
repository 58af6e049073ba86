"""Copy tensors to the device and read numbers back, with as little waiting as possible.

Work on CUDA is queued. A copy from pageable memory, or reading a number, makes the host wait until
the queue has run, and the device idle until the host has queued more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a copy to CUDA is queued, and the host continues at once.

    Args:
        tensor: on any device. A CPU tensor may be changed or freed as soon as this returns, unless
            it was pinned before.
        device: where it goes.

    Returns:
        The same tensor if it is already there.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    # The pinned block outlives its tensor as long as needed: the copy records an event on its
    # stream with PyTorch's caching host allocator, which reuses the block only after that event.
    # Other devices (MPS) do not guarantee that, so only CUDA copies do not wait.
    return tensor.pin_memory().to(device, non_blocking=True)


def all_to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return tensors on a device; CPU tensors are moved by one copy per dtype.

    Args:
        tensors: of any shapes; a tensor may occur several times.
        device: where they go.

    Returns:
        One tensor for each, contiguous, views of what was copied; on the CPU the tensors
        themselves.
    """
    if device.type == "cpu":
        return list(tensors)
    found = {id(each): each.to(device) for each in tensors if each.device.type != "cpu"}
    different = {id(each): each for each in tensors if id(each) not in found}
    for dtype in dict.fromkeys(each.dtype for each in different.values()):
        members = {key: each for key, each in different.items() if each.dtype == dtype}
        flat = torch.cat([each.detach().reshape(-1) for each in members.values()])
        parts = torch.split(to_device(flat, device), [each.numel() for each in members.values()])
        for (key, each), part in zip(members.items(), parts, strict=True):
            found[key] = part.view(each.shape)
    return [found[id(tensor)] for tensor in tensors]


def read(*scalars: Tensor) -> list[float]:
    """Return the values of scalars, waiting for their device once instead of once per scalar.

    Exact for integers up to 2**53 and all floating-point dtypes.
    """
    devices = {scalar.device for scalar in scalars}
    if len(devices) != 1 or devices.pop().type in ("cpu", "mps"):  # MPS has no float64
        return [float(scalar.detach()) for scalar in scalars]
    found: list[float] = torch.stack([each.detach().double() for each in scalars]).tolist()
    return found


def wait(device: torch.device) -> None:
    """Wait until the device has finished all queued work, so that time can be measured."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
