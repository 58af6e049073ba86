"""Noise in the shape of a dataset, for checks and predictions before any file is read."""

from __future__ import annotations

import torch

from distill_core.contracts.components import Dataset
from distill_core.contracts.data import DataSpec, RealData, Split
from distill_core.contracts.streams import seeded
from distill_core.contracts.whitening import Whitening

REAL_IMAGES = 100_000  # more than any real batch


def outline_of(dataset: Dataset) -> DataSpec | None:
    """Return the `DataSpec` of a dataset if it is known without reading files, otherwise None."""
    outline = getattr(dataset, "outline", None)
    spec: DataSpec | None = outline() if outline else None
    return spec


def outlined(spec: DataSpec) -> tuple[str, int, tuple[int, int, int], tuple[str, ...]]:
    """Return what an outline has in common with what is loaded: all but the names of the classes.

    >>> outlined(DataSpec("dots", ("a", "b"), (1, 4, 4), ("flip",)))
    ('dots', 2, (1, 4, 4), ('flip',))
    """
    return spec.name, spec.num_classes, spec.image_shape, spec.augmentations


def noise(spec: DataSpec, device: torch.device) -> RealData:
    """Return real data of noise: one image, expanded many times without using memory."""
    image = torch.randn(1, *spec.image_shape, generator=seeded(0, "noise")).to(device)

    def split(count: int) -> Split:
        labels = torch.arange(count, device=device) % spec.num_classes
        return Split(image.expand(count, *spec.image_shape), labels)

    few = split(spec.num_classes)
    return RealData(spec, split(REAL_IMAGES), few, few, Whitening("none"), fingerprint="noise")
