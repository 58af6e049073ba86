"""What a pixel budget buys in real images: how many per class, and at which size.

For coresets, and for the baseline that a distilled set is measured against.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from distill_core.contracts.whitening import Whitening
from distill_core.system.units import counted


@dataclass(frozen=True)
class RealBudget:
    """What a pixel budget buys in real images.

    Attributes:
        per_class: images per class.
        stored_hw: height and width of stored images.
        image_hw: height and width of the images that networks see.
    """

    per_class: int
    stored_hw: tuple[int, int]
    image_hw: tuple[int, int]

    @property
    def ipc(self) -> float:
        """Stored pixels, in images per class."""
        return self.per_class * math.prod(self.stored_hw) / math.prod(self.image_hw)

    def __str__(self) -> str:
        h, w = self.stored_hw
        what = "whole" if self.stored_hw == self.image_hw else f"down-scaled to {h}x{w} pixels"
        return f"{counted(self.per_class, 'real image')} per class, {what} ({self.ipc:.3f} IPC)"


def real_budget(
    ipc: float, image_hw: tuple[int, int], *, per_class: int | None = None
) -> RealBudget:
    """Spend a pixel budget on real images: whole ones, or smaller ones below 1 IPC.

    Args:
        ipc: budget in images per class.
        image_hw: size of a whole image.
        per_class: images per class; None for as many whole ones as fit, at least one. If they do
            not fit whole, they are stored smaller, but never below one pixel, even if that
            exceeds the budget.

    >>> real_budget(2.7, (32, 32)).per_class, real_budget(0.25, (32, 32)).stored_hw
    (2, (16, 16))
    """
    slack = 1e-9
    if per_class is None:
        per_class = max(1, math.floor(ipc + slack))
    scale = min(1.0, math.sqrt(ipc / per_class))
    h, w = (max(1, math.floor(scale * side + slack)) for side in image_hw)
    return RealBudget(per_class, (h, w), image_hw)


def shrink(images: Tensor, budget: RealBudget, whitening: Whitening) -> Tensor:
    """Scale whitened images (n, C, h, w) down to the stored size, with antialiasing.

    Returns:
        (n, C, h, w) of size `budget.stored_hw`, pixels from 0 to 1: images are scaled before
        whitening.
    """
    raw = whitening.invert(images)
    return functional.interpolate(raw, budget.stored_hw, mode="bilinear", antialias=True)


def enlarge(stored: Tensor, budget: RealBudget, whitening: Whitening) -> Tensor:
    """Scale images from `shrink` up to `budget.image_hw`, bilinearly, and whiten them."""
    back = functional.interpolate(stored, budget.image_hw, mode="bilinear")
    return whitening.apply(back)
