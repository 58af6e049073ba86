"""Counting the operations of a computation, and the bytes that they move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from distill_core.system.memory import storage_key, tensors_in


class CountOps(TorchDispatchMode):
    """Counts, within its block, operations that compute, and bytes of their arguments and results.

    Views and uninitialised memory count zero. The gradient of a convolution counts once for each
    tensor it is taken in. On meta tensors nothing is computed, so any size is free.

    >>> with CountOps() as count:
    ...     x = torch.ones(1000)
    ...     y = x.view(10, 100) + 1
    >>> count.kernels["add"], count.bytes["add"], sum(count.kernels.values())
    (1, 8000, 2)

    Attributes:
        kernels: number of calls, by the operation's name.
        bytes: read and written by all calls together, by the same names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def note(self, name: str, tensors: Sequence[torch.Tensor], kernels: int = 1) -> None:
        """Count kernels that PyTorch does not launch, as if they were an operation."""
        self.kernels[name] += kernels
        # An expanded tensor has more elements than memory.
        sizes = (min(t.untyped_storage().nbytes(), t.numel() * t.element_size()) for t in tensors)
        self.bytes[name] += sum(sizes)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count it."""
        del types
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        given, made = tensors_in((args, kwargs)), tensors_in(result)
        if not _moves_nothing(func, name, given, made):
            each = len(made) if name == "convolution_backward" else 1
            self.note(name, given + made, each)
        return result


def _moves_nothing(
    func: Any, name: str, given: Sequence[torch.Tensor], made: Sequence[torch.Tensor]
) -> bool:
    if "empty" in name or func.is_view:
        return True
    keys = {storage_key(tensor) for tensor in given}
    writes = any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
    return not writes and all(storage_key(tensor) in keys for tensor in made)
