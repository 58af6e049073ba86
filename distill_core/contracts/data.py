"""Real images: what a dataset returns (`RawData`), and what components see of it (`RealData`).

`distill_core/data/prepare.py` makes `RealData` from `RawData`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from distill_core.contracts.transfer import to_device
from distill_core.contracts.whitening import Whitening

AUGMENTATIONS = ("flip", "rotate", "scale", "crop", "cutout", "color")
# Signs that turn the direction of what follows: a name could look like another text.
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class DataSpec:
    """The static facts about a dataset.

    Attributes:
        name: its name, for records.
        class_names: K names, in label order.
        image_shape: C, h, w.
        augmentations: the operations of `AUGMENTATIONS` that keep its labels.
        fit: how pictures of other shapes were brought to that of the images: "crop" cut out their
            centre, "squash" scaled height and width apart. Test images are fitted likewise.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    augmentations: tuple[str, ...]
    fit: Literal["crop", "squash"] = "crop"

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.class_names)

    @property
    def is_small(self) -> bool:
        """Whether images are below 28 pixels, a size without published results.

        Defaults that decide the cost of a run follow the papers from 28 pixels on, and our own
        measurements on 8x8 digits (docs/results-details.md) below.
        """
        return min(self.image_shape[1:]) < 28


class Room:
    """Gives memory for the images of a dataset: here from the process's own.

    `distill_core/data/mapped_pixels.py` gives files that are mapped into memory.
    """

    def empty(self, shape: tuple[int, int, int, int]) -> Tensor:
        """Return a tensor of bytes (N, C, h, w), of any content, to be filled from its start."""
        return torch.empty(shape, dtype=torch.uint8)

    def begun(self) -> tuple[int, Mapping[str, Any]]:
        """Return how many images an earlier process had in place when it was ended, and its notes.

        Who goes on fills the same tensors, asked for in the same order, after as many images.
        """
        return 0, {}

    def filled(self, count: int, noted: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Be told that `count` more images are in their place.

        Args:
            count: images.
            noted: returns what `begun` is to tell the process that goes on after them, JSON
                values; None: it begins anew.
        """


@dataclass(frozen=True)
class Sources:
    """What a dataset reads. While it is as it was, so is what `load` returns, which is then kept.

    Attributes:
        files: every file and folder that `load` looks at, by a name that says nothing of where
            they lie as a whole.
        how: all else that `load` depends on, as text: the options without the place, and a version
            of the code that reads.
    """

    files: Mapping[str, Path]
    how: str


Known = Callable[[str, Callable[[], Any]], Any]


def find_anew(question: str, find: Callable[[], Any]) -> Any:
    """Return what `find` finds: nothing is known of these images from earlier."""
    del question
    return find()


@dataclass(frozen=True)
class RawData:
    """What `Dataset.load` returns.

    Attributes:
        spec: static facts.
        train_images: (N, C, h, w) uint8.
        train_labels: (N,) int64, 0 to K - 1.
        test_images, test_labels: likewise.
        notes: sentences on what was left out or lost in reading, for console, manifest and report.
        known: set by the core. `known(question, find)` returns the JSON value that `find()` returns
            for these images, from earlier if it was asked before.
    """

    spec: DataSpec
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    notes: tuple[str, ...] = ()
    known: Known = find_anew


@dataclass(frozen=True)
class Split:
    """Whitened images and their labels, on the device.

    With `data.storage=memmap` there is no tensor `images`, and `take` reads them from the disk.

    Attributes:
        images: (N, C, h, w) as stored: float32, or float16 with `data.storage=float16`. `take` and
            `batch` return float32; use those, unless you need all images and their dtype does
            not matter.
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where images and labels live, or are sent."""
        return self.labels.device

    def take(self, index: Tensor | slice) -> Tensor:
        """Return the images at `index`, for computing: (n, C, h, w) float32."""
        return as_float32(self.images[index])

    def stream(self, indices: Iterable[Tensor | slice]) -> Iterator[Tensor]:
        """Yield `take(index)` for each index; images that stay on the disk are read ahead."""
        yield from map(self.take, indices)

    def batch(self, size: int, *, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw images and labels uniformly without replacement; all if `size` >= N."""
        if size >= len(self):
            return as_float32(self.images), self.labels
        index = self.draw(size, generator=generator)
        return self.take(index), self.labels[index]

    def draw(self, size: int, *, generator: Generator) -> Tensor:
        """Draw indices of images, (n,) on the device, without replacement; all if `size` >= N."""
        if size >= len(self):
            return torch.arange(len(self), device=self.device)
        index = torch.randperm(len(self), generator=generator)[:size]
        return to_device(index, self.device)


def as_float32(images: Tensor) -> Tensor:
    """Return half-precision images as float32, and others as they are."""
    return images.float() if images.dtype == torch.float16 else images


@dataclass(frozen=True)
class RealData:
    """The real data as every component sees it.

    Attributes:
        spec: static facts.
        train: for algorithms, orderers and representations.
        validation: for selecting learning rates and steps; may be empty.
        test: read once, at the end.
        whitening: how images were whitened; `whitening.invert` makes pictures.
        fingerprint: hexadecimal digest of the raw bytes, split and whitening.
        content: likewise of class names, raw images and labels alone, the same for every seed;
            empty: not known.
        notes: sentences on what was left out or lost in reading, and on what the data do not show.
    """

    spec: DataSpec
    train: Split
    validation: Split
    test: Split
    whitening: Whitening
    fingerprint: str
    content: str = ""
    notes: tuple[str, ...] = ()


def can_be_shown(name: str) -> bool:
    """Say whether a class name can be printed as it is: no control characters, nothing that turns
    the direction of writing.

    >>> can_be_shown("zebra \u200d"), can_be_shown("a\x1b[31m"), can_be_shown("\u202egpj")
    (True, False, False)
    """
    return all(
        sign.isprintable() or (unicodedata.category(sign) in ("Zs", "Cf") and sign not in TURNING)
        for sign in name
    )
