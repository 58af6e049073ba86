"""Memory and work for what a stranger's file asks for: its settings may name any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from distill_core.artefact.soundness import LEAST_GATHERED, check_gathered, refuse
from distill_core.data.storage import free_memory

SHARE = 0.5  # of the free memory, that all tensors together may take: a system kills who takes all
# Bytes that all operations together may make: so many, about a minute, and more for each of the
# file. For images of 32x32 gsdd makes 6,000 for each byte, for larger ones more with their area.
LEAST_MADE, MADE = 2**36, 2**21
EACH = 2**19  # bytes that an operation counts for beside those that it makes: it takes time, too


def check_room(file: Path, size: int) -> None:
    """Refuse images that neither this machine has room for nor a file of this size should make.

    Args:
        file: which is decoded.
        size: bytes of the images.

    Raises:
        InputError: these are too many.
    """
    if size > SHARE * free_memory(torch.device("cpu")):
        check_gathered(file, size)


class WithinMemory(TorchDispatchMode):
    """Refuses what the machine has no room for, or a file no right to, before it is made.

    Each operation is done without numbers first, which gives the size of its result.

    The first one takes seconds, in which PyTorch imports its compiler (`torch._dynamo`): it wraps
    this class's `__torch_dispatch__`, and what it does without numbers for `mul`, `cumsum` and many
    more, so that the compiler leaves them alone. So does every optimizer of `torch.optim`.

    Args:
        file: which is decoded.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.file = file
        self.room = max(LEAST_GATHERED, SHARE * free_memory(torch.device("cpu")))
        self.left = self.most = LEAST_MADE + MADE * file.stat().st_size
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}
        self._alive = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do an operation, unless there is no room for its result.

        Raises:
            InputError: there is none.
        """
        del types
        kwargs = dict(kwargs or {})
        self._check(_size(func, args, kwargs))
        result = func(*args, **kwargs)
        for storage in _storages(result):
            if storage._cdata not in self._made:
                weak = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._made[storage._cdata] = weak, storage.nbytes()
                self._alive += storage.nbytes()
        return result

    def _check(self, size: int) -> None:
        """Count the result of an operation, `size` bytes."""
        if self._alive + size > self.room:
            self._forget()
        if self._alive + size > self.room:
            refuse(
                self.file,
                f"decoding it takes {(self._alive + size) / 1e6:,.0f} MB at once",
                "at most half of the free memory of this machine",
            )
        self.left -= EACH + size
        if self.left < 0:
            refuse(
                self.file,
                f"decoding it takes too long: its results are more than {self.most / 1e9:,.0f} GB",
                "a file that is decoded in a reasonable time",
            )

    def _forget(self) -> None:
        """Count no more what is gone."""
        gone = [key for key, (weak, _) in self._made.items() if weak.expired()]  # type: ignore[no-untyped-call]
        for key in gone:
            self._alive -= self._made.pop(key)[1]


def _size(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Return the new bytes of the result of an operation; 0 if they depend on the numbers."""
    try:
        plain, named = tree_map_only(Tensor, _without_numbers, (tuple(args), dict(kwargs)))
        if "device" in named:
            named["device"] = torch.device("meta")
        given = {storage._cdata for storage in _storages((plain, named))}
        made = {each._cdata: each.nbytes() for each in _storages(func(*plain, **named))}
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return 0
    return sum(nbytes for key, nbytes in made.items() if key not in given)


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [each.untyped_storage() for each in tree_flatten(tree)[0] if isinstance(each, Tensor)]


def _without_numbers(tensor: Tensor) -> Tensor:
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=torch.device("meta")
    )
