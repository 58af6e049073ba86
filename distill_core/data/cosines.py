"""The cosine transform, as a matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_basis(size: int) -> Tensor:
    """Return the orthonormal DCT-II as a matrix (frequencies, places).

    >>> cosine_basis(1).tolist()
    [[1.0]]
    """
    place = torch.arange(size, dtype=torch.float64) + 0.5
    waves = torch.cos(math.pi / size * torch.arange(size)[:, None] * place)
    waves[0] /= math.sqrt(2)
    return (waves * math.sqrt(2 / size)).float()
