"""Measuring what a computation costs: the tensors that autograd keeps for its backward pass."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


class SavedBytes:
    """Counts, within its block, the bytes that autograd saves; shared memory counts once.

    >>> import torch
    >>> x = torch.ones(1000, requires_grad=True)
    >>> with SavedBytes() as saved:
    ...     y = (x.exp() ** 2).sum()
    >>> saved.bytes
    4000

    Attributes:
        bytes: bytes saved so far.
    """

    def __init__(self) -> None:
        self._hooks = saved_tensors_hooks(self._note, lambda tensor: tensor)
        self._sizes: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        """Bytes of all distinct storages that were saved."""
        return sum(self._sizes.values())

    def _note(self, tensor: Tensor) -> Tensor:
        # The graph keeps the tensor, so its address is not given out again meanwhile.
        storage = tensor.untyped_storage()
        self._sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.__exit__(kind, error, trace)
