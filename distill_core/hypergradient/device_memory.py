"""What a process takes of a device's memory, measured: between steps, at most, and besides tensors.

On CUDA three things take memory. PyTorch's tensors, which predictions count one by one. What its
allocator holds besides: scratch memory of cuDNN and cuBLAS, rounding, fragments, and the pools of
CUDA graphs. And the context: the driver's part of the process with the code of all operations that
were used. The context is what is taken on the card and not held by PyTorch, so it is measured right
where nobody else is on the card; another process there counts with it, and then a prediction is too
high.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from distill_core.contracts import Estimate
from distill_core.runtime import release_memory


class Trial:
    """Predictions of outer steps on a device, and what the steps tried took beside their tensors.

    Args:
        device: where they are run.

    Attributes:
        scratch: bytes that PyTorch's allocator held at the worst moment of the last trial, beyond
            the tensors that were counted then; 0 where it is not known, as on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.scratch = 0

    def run(self, estimate: Callable[[], Estimate | None]) -> Estimate | None:
        """Return what a call predicts, with what it used given back."""
        cuda = self.device.type == "cuda"
        if cuda:
            release_memory()
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            found = estimate()
        finally:
            release_memory()
        if cuda and found is not None:
            # What stays with PyTorch is in use, as the pools of graphs are: it counts there.
            held = torch.cuda.max_memory_reserved(self.device)
            stays = torch.cuda.memory_reserved(self.device)
            self.scratch = max(held - stays - found.counted, 0)
        return found

    def in_use(self) -> int:
        """Return the bytes in use beside the tensors of an outer step."""
        return memory_in_use(self.device) + self.scratch


def context_memory(device: torch.device) -> int:
    """Return the bytes of a card that are taken and not PyTorch's: the context; 0 elsewhere."""
    if device.type != "cuda":
        return 0
    return max(_taken(device) - torch.cuda.memory_reserved(device), 0)


def memory_in_use(device: torch.device) -> int:
    """Return the bytes that this process uses now on a device.

    On CUDA all that is taken on the card; on the CPU what is resident.
    """
    if device.type == "cuda":
        return _taken(device)
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    return _resident("VmRSS:")


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that this process has used at once on a device so far.

    On CUDA what PyTorch held at most and the context; on the CPU what was resident, with data and
    libraries. Of MPS no peak is known, so what is in use now is returned.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) + context_memory(device)
    if device.type == "mps":
        return memory_in_use(device)
    # Not getrusage where it can be helped: its peak includes that of the parent process.
    return _resident("VmHWM:")


def _taken(device: torch.device) -> int:
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _resident(field: str) -> int:
    """Return a field of Linux's process status, in bytes; elsewhere the peak."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    import resource  # not on Windows

    # Elsewhere only the peak can be had without another package; macOS counts it in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
