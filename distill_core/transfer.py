"""How tensors reach the device and numbers come back: the host waits as seldom as it can.

Work on CUDA is queued. A copy from pageable memory, or a number that is read, makes the host wait
until all that was queued has run, and the device idle until the host has queued more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a copy to CUDA is queued, and the host goes on at once.

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


def all_to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return tensors on a device, those of the CPU by one copy for each dtype among them.

    Args:
        tensors: of any shapes; the same one may be there several times.
        device: where they go.

    Returns:
        One for each, contiguous, views of what was copied; on the CPU the tensors themselves.
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
    """Return the numbers of some scalars, waiting for their device once and not for each.

    Exact for what fits into a Python float: integers up to 2**53, all floating-point types.
    """
    devices = {scalar.device for scalar in scalars}
    if len(devices) != 1 or devices.pop().type in ("cpu", "mps"):  # MPS has no float64
        return [float(scalar) for scalar in scalars]
    found: list[float] = torch.stack([each.detach().double() for each in scalars]).tolist()
    return found


def wait(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it, so that time can be measured."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
