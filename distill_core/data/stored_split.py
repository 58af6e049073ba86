"""Real images that stay on the disk: a split that reads, whitens and sends each batch anew.

The bytes lie in a file, of which all processes of a machine share one copy in the page cache. On a
card, the next batch is read by a thread into pinned memory while the last one is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NoReturn

import torch
from torch import Generator, Tensor

from distill_core.contracts.data import Split
from distill_core.contracts.transfer import to_device
from distill_core.contracts.whitening import Whitening
from distill_core.system.mapped import check_whole, read_rows
from distill_core.system.prefetch import prefetched
from registry import InputError


class StoredSplit(Split):
    """Images that are read from their file when they are asked for.

    Args:
        pixels: (N, C, h, w) uint8, mapped, of a whole part of a dataset.
        index: (n,) int64 on the CPU, ascending: the images of this split.
        labels: (n,) int64 on the device.
        whitening: on the device.
    """

    def __init__(self, pixels: Tensor, index: Tensor, labels: Tensor, whitening: Whitening) -> None:
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "_pixels", pixels)
        object.__setattr__(self, "_index", index)
        object.__setattr__(self, "_whitening", whitening)

    _pixels: Tensor
    _index: Tensor
    _whitening: Whitening

    def __repr__(self) -> str:
        return f"StoredSplit({len(self)} images of {tuple(self._pixels.shape[1:])})"

    @property
    def images(self) -> NoReturn:
        """There is no tensor of all images.

        Raises:
            InputError: always.
        """
        raise InputError(
            "all real images were asked for at once, and they stay on the disk.",
            expected="a component that reads them by `Split.take` or `Split.stream`.",
            next="pass -o data.storage=float32 (or float16) if they fit into memory, or tell the "
            "author of the component.",
        )

    def take(self, index: Tensor | slice) -> Tensor:
        """Return the images at `index`, whitened, on the device: (n, C, h, w) float32."""
        return self._sent(self._bytes(index))

    def stream(self, indices: Iterable[Tensor | slice]) -> Iterator[Tensor]:
        """Yield `take(index)` for each index; the next one is read meanwhile."""
        for pixels in prefetched(self._bytes, indices, name="reads-images"):
            yield self._sent(pixels)

    def batch(self, size: int, *, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw images and labels, as `Split.batch`."""
        if size >= len(self):
            return self.take(slice(None)), self.labels
        index = self.draw(size, generator=generator)
        return self.take(index), self.labels[index]

    def _bytes(self, index: Tensor | slice) -> Tensor:
        """(n, C, h, w) uint8 on the CPU; in pinned memory where they go to a card."""
        check_whole()
        chosen = self._index[index if isinstance(index, slice) else index.cpu()]
        shape = (len(chosen), *self._pixels.shape[1:])
        found = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        read_rows(self._pixels, chosen, found)
        return found

    def _sent(self, pixels: Tensor) -> Tensor:
        return self._whitening.apply(to_device(pixels, self.device))
