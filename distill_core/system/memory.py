"""Measuring memory: `PeakBytes` of the tensors of a computation, functions of the whole process."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class PeakBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts, within its block, the bytes of tensors that are made there and alive together.

    It counts what PyTorch allocates for tensors, on any device and for graphs too, so the same code
    gives the same number everywhere. It does not see scratch memory within an operation.

    >>> with PeakBytes() as memory:
    ...     x = torch.ones(1000)
    ...     y = x + 1
    ...     del x
    ...     z = y * 2
    >>> memory.peak, memory.alive
    (8000, 8000)

    Attributes:
        alive: bytes alive now.
        peak: most bytes alive at once since the start or the last `mark`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = 0
        self.peak = 0
        self._known: set[int] = set()

    def mark(self) -> int:
        """Return the peak so far, and restart it from what is alive."""
        peak, self.peak = self.peak, self.alive
        return peak

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count the tensors that it makes."""
        del types
        result = func(*args, **(kwargs or {}))
        given = {storage_key(tensor) for tensor in tensors_in((args, kwargs))}
        for made in tensors_in(result):
            if storage_key(made) not in given:
                self._note(made)
        return result

    def _note(self, tensor: torch.Tensor) -> None:
        storage, key = tensor.untyped_storage(), storage_key(tensor)
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def context_memory(device: torch.device) -> int:
    """Return the used bytes of a card that are not PyTorch's (the context); 0 on other devices."""
    if device.type != "cuda":
        return 0
    return max(_taken(device) - torch.cuda.memory_reserved(device), 0)


def memory_in_use(device: torch.device) -> int:
    """Return the bytes that this process uses now on a device.

    On CUDA everything used on the card, by any process; on the CPU the resident memory.
    """
    if device.type == "cuda":
        return _taken(device)
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    return _resident("VmRSS:")


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that this process has used at once on a device so far.

    On CUDA the peak that PyTorch held, plus the context; on the CPU the peak of resident memory,
    with data and libraries. MPS does not record a peak, so the memory in use now is returned.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) + context_memory(device)
    if device.type == "mps":
        return memory_in_use(device)
    # Not getrusage if avoidable: its peak includes that of the parent process.
    return _resident("VmHWM:")


def tensors_in(tree: Any) -> list[torch.Tensor]:
    """Return the tensors of the arguments, or of the result, of an operation."""
    return [leaf for leaf in tree_iter(tree) if isinstance(leaf, torch.Tensor)]


def storage_key(tensor: torch.Tensor) -> int:
    """Return what tensors of one storage share, and no others that are alive."""
    return int(tensor.untyped_storage()._cdata)


def _taken(device: torch.device) -> int:
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _resident(field: str) -> int:
    """Return a field of Linux's process status, in bytes; on other systems the peak."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    import resource  # not on Windows

    # Other systems give only the peak without another package; macOS counts it in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
