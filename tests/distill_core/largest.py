"""The largest tensor that operations of PyTorch return, for tests of what is in memory at once."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Results(TorchDispatchMode):
    """Keeps how many numbers each new tensor has; views of others do not count.

    Attributes:
        sizes: of every result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and not found._is_view():
            known = {each.untyped_storage().data_ptr() for each in args if isinstance(each, Tensor)}
            if found.untyped_storage().data_ptr() not in known:
                self.sizes.append(found.numel())
        return found
