"""Handwritten digits of 8x8 pixels, from inside scikit-learn: real images without a download."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from distill_core.builtin.datasets.options import DigitsOptions
from distill_core.plugin import DataSpec, RawData, held_out, seeded

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WRITING = ("rotate", "scale", "crop", "cutout", "color")  # a mirrored digit is none


@dataclass(frozen=True)
class Digits:
    """1,797 images of 1x8x8, a fifth of every class for testing, whatever the run's seed.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998; the
        part that scikit-learn ships.
    """

    options: DigitsOptions

    def outline(self) -> DataSpec:
        """Return what is known before loading."""
        return DataSpec("digits", DIGITS, (1, 8, 8), WRITING)

    def load(self) -> RawData:
        """Read the images from scikit-learn."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        levels = torch.from_numpy(bunch.images)[:, None]  # 0 to 16
        images = (levels * 255 / 16).round().to(torch.uint8)
        labels = torch.from_numpy(bunch.target).long()
        testing = held_out(labels, 0.2, generator=seeded(0, "digits split"))
        return RawData(
            spec=self.outline(),
            train_images=images[~testing],
            train_labels=labels[~testing],
            test_images=images[testing],
            test_labels=labels[testing],
        )
