"""Where tensors live: the device that a name means on this machine."""

from __future__ import annotations

import torch

from registry import InputError


def pick_device(name: str) -> torch.device:
    """Return the device for a name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        InputError: no such device, or it is not available here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device '{name}' cannot be used: {reason}",
            expected="auto, cpu, cuda, cuda:N or mps, and present on this machine.",
            next="leave --device out to let distill choose.",
        ) from None
    return device
