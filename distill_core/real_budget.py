"""What a pixel budget buys in real images: how many of each class, and at which size.

For coresets, and for the control that a distilled set is measured against.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from distill_core.whitening import Whitening


@dataclass(frozen=True)
class RealBudget:
    """What a pixel budget buys in real images.

    Attributes:
        per_class: images of every class.
        stored_hw: height and width at which each is stored.
        image_hw: height and width at which networks see them.
    """

    per_class: int
    stored_hw: tuple[int, int]
    image_hw: tuple[int, int]

    @property
    def ipc(self) -> float:
        """Pixels stored, in images per class."""
        return self.per_class * math.prod(self.stored_hw) / math.prod(self.image_hw)

    def __str__(self) -> str:
        h, w = self.stored_hw
        what = "whole" if self.stored_hw == self.image_hw else f"down-scaled to {h}x{w} pixels"
        return f"{self.per_class} real image(s) per class, {what} ({self.ipc:.3f} IPC)"


def real_budget(
    ipc: float, image_hw: tuple[int, int], *, per_class: int | None = None
) -> RealBudget:
    """Spend a pixel budget on real images: whole ones, or smaller ones below 1 IPC.

    Args:
        ipc: budget in images per class.
        image_hw: size of a whole image.
        per_class: images of every class; None for as many as fit whole, and at least one. More
            of them are stored smaller. One pixel is the least, even where that is too much.

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
    """Scale whitened images (n, C, h, w) down to what is stored, with antialiasing.

    Returns:
        (n, C, h, w) in the size of `budget.stored_hw`, pixels from 0 to 1: down-scaling comes
        before whitening.
    """
    raw = whitening.invert(images)
    return functional.interpolate(raw, budget.stored_hw, mode="bilinear", antialias=True)


def enlarge(stored: Tensor, budget: RealBudget, whitening: Whitening) -> Tensor:
    """Scale what `shrink` gave up again, bilinearly, and whiten it, in `budget.image_hw`."""
    back = functional.interpolate(stored, budget.image_hw, mode="bilinear")
    return whitening.apply(back)
