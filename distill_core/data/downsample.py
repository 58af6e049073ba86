"""Pixels stored at a fraction of their height and width, and scaled up for use.

Source: IDC (Kim et al. 2022, arXiv:2205.14959), which stores several small images in the place of
one; here also on posters, whose pixels classes share.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def upsample(stored: Tensor, factor: int, *, wraps: bool = False) -> Tensor:
    """Scale canvases up bilinearly.

    Args:
        stored: (canvases, C, h, w), carries the gradient.
        factor: how many times as high and as wide they become; 1 returns `stored` itself.
        wraps: opposite borders are neighbours, as on a cyclic poster.

    Returns:
        (canvases, C, factor * h, factor * w).
    """
    if factor == 1:
        return stored
    if not wraps:
        return functional.interpolate(stored, scale_factor=factor, mode="bilinear")
    around = functional.pad(stored, (1, 1, 1, 1), mode="circular")
    whole = functional.interpolate(around, scale_factor=factor, mode="bilinear")
    return whole[..., factor:-factor, factor:-factor]


def downsample(images: Tensor, factor: int) -> Tensor:
    """Scale images (n, C, H, W), whose sides are multiples of `factor`, down to block means."""
    return images if factor == 1 else functional.avg_pool2d(images, factor)
