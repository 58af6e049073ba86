"""What a dataset leaves to be said before anybody trusts an accuracy on it."""

from __future__ import annotations

import torch
from torch import Tensor

from distill_core.contracts.data import RawData
from distill_core.data.image_chunks import image_chunks
from distill_core.system.units import shortened

SAME = 0.01  # of the test images


def data_notes(raw: RawData) -> tuple[str, ...]:
    """Return the dataset's own notes, and sentences on its test images; empty if all is well.

    Args:
        raw: checked raw data.
    """
    return (*raw.notes, *_untested(raw), *_seen(raw))


def _untested(raw: RawData) -> tuple[str, ...]:
    counts = torch.bincount(raw.test_labels, minlength=raw.spec.num_classes)
    missing = [raw.spec.class_names[k] for k in (counts == 0).nonzero().flatten().tolist()]
    if not missing:
        return ()
    return (f"no test images of: {shortened(missing)}; no accuracy says anything about them.",)


def _seen(raw: RawData) -> tuple[str, ...]:
    """Test images that are also training images, byte by byte."""
    same = int(raw.known("test images that are training images", lambda: _count_seen(raw)))
    if same < SAME * len(raw.test_images):
        return ()
    return (
        f"{same:,} of {len(raw.test_images):,} test images are training images, too: accuracy on "
        "them says little about new ones.",
    )


def _count_seen(raw: RawData) -> int:
    trained = set(_digests(raw.train_images))
    return sum(digest in trained for digest in _digests(raw.test_images))


def _digests(images: Tensor) -> list[int]:
    """A number for each image, the same for the same bytes; 64 bits are enough to count by."""
    return [hash(image.tobytes()) for some in image_chunks(images) for image in some.numpy()]
