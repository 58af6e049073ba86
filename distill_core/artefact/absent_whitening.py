"""The whitening of stored numbers that lie alone: training needs none, test images do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from distill_core.contracts.whitening import Whitening
from registry import InputError


@dataclass(frozen=True, eq=False)
class AbsentWhitening(Whitening):
    """A whitening whose numbers are not there: whatever needs them says so.

    Attributes:
        path: where they would be.
    """

    path: Path = Path()

    def tensors(self) -> dict[str, Tensor]:
        """Refuse."""
        self._refuse()

    def to(self, device: torch.device) -> Whitening:
        """Return the same."""
        del device
        return self

    def apply(self, images: Tensor) -> Tensor:
        """Refuse."""
        self._refuse()

    def invert(self, images: Tensor, *, in_range: bool = True) -> Tensor:
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"{self.path} is missing: stored numbers have no whitening.",
            expected=f"the '{self.kind}' of the data beside it; images of the data need it, those "
            "of a result only if they are real ones that are stored smaller.",
            next="copy it from the run directory, too.",
        )


def absent(kind: str, path: Path) -> Whitening:
    """Return the whitening of a kind without its file: whole, if the kind has no numbers."""
    return Whitening("none") if kind == "none" else AbsentWhitening(kind, path=path)
