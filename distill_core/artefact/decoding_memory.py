"""Memory for what a stranger's file asks for: settings of a few bytes may name any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from distill_core.artefact.soundness import LEAST_GATHERED, refuse
from distill_core.data.storage import free_memory

SHARE = 0.5  # of the free memory, that one tensor may take: a system kills who takes all


class WithinMemory(TorchDispatchMode):
    """Refuses a tensor that the machine has no room for, before it is made.

    Each operation is done without numbers first, which gives the size of its result.

    Args:
        file: which is decoded.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.file = file

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do an operation, unless its result is too large.

        Raises:
            InputError: it is.
        """
        del types
        kwargs = dict(kwargs or {})
        size = _size(func, args, kwargs)
        if size > LEAST_GATHERED and size > SHARE * free_memory(torch.device("cpu")):
            refuse(
                self.file,
                f"decoding it takes {size / 1e6:,.0f} MB at once",
                "at most half of the free memory of this machine",
            )
        return func(*args, **kwargs)


def _size(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Return the bytes of the result of an operation; 0 if they depend on the numbers."""
    try:
        plain, named = tree_map_only(Tensor, _without_numbers, (tuple(args), dict(kwargs)))
        if "device" in named:
            named["device"] = torch.device("meta")
        made = func(*plain, **named)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return 0
    tensors = [each for each in tree_flatten(made)[0] if isinstance(each, Tensor)]
    return sum(each.untyped_storage().nbytes() for each in tensors)


def _without_numbers(tensor: Tensor) -> Tensor:
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=torch.device("meta")
    )
