"""The cosine transform, as a matrix, and the order of its frequencies."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_basis(size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the orthonormal DCT-II as a matrix (frequencies, places), rounded from float64.

    >>> cosine_basis(1).tolist()
    [[1.0]]
    """
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    waves = torch.cos(math.pi / size * frequency * (frequency.T + 0.5))
    waves[0] /= math.sqrt(2)
    return (waves * math.sqrt(2 / size)).to(dtype)


def lowest_frequencies(hw: tuple[int, int]) -> Tensor:
    """Return the frequencies of an image from the lowest up: (h w,) places in reading order.

    >>> lowest_frequencies((2, 3)).tolist()
    [0, 1, 3, 4, 2, 5]
    """
    down, across = (torch.arange(side) / side for side in hw)
    return (down[:, None].square() + across.square()).flatten().sort(stable=True).indices
