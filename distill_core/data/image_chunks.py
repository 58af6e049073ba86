"""One pass over many images, chunk by chunk, that leaves no more of them in memory than a few."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distill_core.contracts.whitening import chunks
from distill_core.system.mapped import read_rows


def image_chunks(images: Tensor, index: Tensor | None = None) -> Iterator[Tensor]:
    """Yield images (N, C, h, w) in chunks of about two million numbers.

    Args:
        images: in memory, or mapped.
        index: (n,) int64, which ones and in which order; None: all.
    """
    if index is None:
        index = torch.arange(len(images))
    for chunk in chunks(images[:1].expand(len(index), -1, -1, -1)):
        some = index[chunk]
        found = torch.empty((len(some), *images.shape[1:]), dtype=images.dtype)
        read_rows(images, some, found)
        yield found
