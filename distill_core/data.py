"""Real data: what a dataset hands over, and what the rest of the toolkit sees of it.

A dataset loads raw bytes (`RawData`); `RealData.prepare` splits, whitens and moves them to the
device once. The whitening maths is in `whitening.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from distill_core.config import DataOptions
from distill_core.streams import seeded
from distill_core.whitening import Whitening, fit_whitening
from registry import InputError

AUGMENTATIONS = ("flip", "rotate", "scale", "crop", "cutout", "color")


@dataclass(frozen=True)
class DataSpec:
    """The static facts about a dataset.

    Attributes:
        name: its name, for records.
        class_names: K names, in label order.
        image_shape: C, h, w.
        augmentations: the operations of `AUGMENTATIONS` that keep its labels.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    augmentations: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.class_names)


@dataclass(frozen=True)
class RawData:
    """What `Dataset.load` returns.

    Attributes:
        spec: static facts.
        train_images: (N, C, h, w) uint8.
        train_labels: (N,) int64, 0 to K - 1.
        test_images, test_labels: likewise.
    """

    spec: DataSpec
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class Split:
    """Whitened images (N, C, h, w) float32 and labels (N,) int64, on the device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, size: int, *, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw images and labels uniformly without replacement; all of them if `size` >= N."""
        if size >= len(self):
            return self.images, self.labels
        index = torch.randperm(len(self), generator=generator)[:size].to(self.images.device)
        return self.images[index], self.labels[index]


@dataclass(frozen=True)
class RealData:
    """The real data as every component sees it.

    Attributes:
        spec: static facts.
        train: what algorithms, orderers and representations may look at.
        validation: what selects (learning rates, steps); may be empty.
        test: read once, at the end.
        whitening: how images were whitened; `whitening.invert` makes pictures.
        fingerprint: hexadecimal digest of the raw bytes, split and whitening.
    """

    spec: DataSpec
    train: Split
    validation: Split
    test: Split
    whitening: Whitening
    fingerprint: str

    @staticmethod
    def prepare(
        raw: RawData, options: DataOptions, *, seed: int, device: torch.device
    ) -> RealData:
        """Check, split, whiten, and move to the device.

        Whitening is fitted on the training split alone. The split depends on the seed and the
        data, nothing else; every class keeps at least one training image.

        Raises:
            InputError: the arrays do not fit each other, or a class has no training image.
        """
        check_raw(raw)
        digest = fingerprint(raw, options, seed)
        held = _held_out(raw.train_labels, options.validation, seed)
        whitening = fit_whitening(
            options.whitening,
            raw.train_images[~held],
            strength=options.zca_strength,
        )

        def split(images: Tensor, labels: Tensor) -> Split:
            return Split(whitening.apply(images).to(device), labels.to(device))

        return RealData(
            spec=raw.spec,
            train=split(raw.train_images[~held], raw.train_labels[~held]),
            validation=split(raw.train_images[held], raw.train_labels[held]),
            test=split(raw.test_images, raw.test_labels),
            whitening=whitening,
            fingerprint=digest,
        )


def check_raw(raw: RawData) -> None:
    """Refuse raw data that does not keep its contract.

    Raises:
        InputError: a shape, type, label or augmentation is wrong, or a class has no images.
    """
    spec = raw.spec
    who = f"dataset '{spec.name}'"
    for part, images, labels in (
        ("training", raw.train_images, raw.train_labels),
        ("test", raw.test_images, raw.test_labels),
    ):
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != spec.image_shape:
            raise InputError(
                f"{who} has {part} images {tuple(images.shape)} of {images.dtype}.",
                expected=f"(N, {', '.join(map(str, spec.image_shape))}) of torch.uint8.",
                next="mend the dataset component.",
            )
        if len(images) != len(labels):
            raise InputError(
                f"{who} has {len(images)} {part} images but {len(labels)} labels.",
                expected="one label for each image.",
                next="mend the dataset component.",
            )
        counts = torch.bincount(labels, minlength=spec.num_classes)
        if len(counts) > spec.num_classes:
            raise InputError(
                f"{who} has {part} label {int(labels.max())} but {spec.num_classes} classes.",
                expected=f"labels from 0 to {spec.num_classes - 1}.",
                next="mend the dataset component.",
            )
        empty = [spec.class_names[k] for k in (counts == 0).nonzero().flatten().tolist()]
        if empty and part == "training":
            raise InputError(
                f"{who} has no {part} images of: {', '.join(empty[:10])}.",
                expected="at least one image of every class.",
                next="add images of these classes or remove their folders.",
            )
        if len(images) == 0:
            raise InputError(f"{who} has no {part} images.", expected="at least one.")
    unknown = sorted(set(spec.augmentations) - set(AUGMENTATIONS))
    if unknown:
        raise InputError(
            f"{who} allows unknown augmentations: {', '.join(unknown)}.",
            expected=f"some of: {', '.join(AUGMENTATIONS)}.",
            next="mend the dataset component.",
        )


def fingerprint(raw: RawData, options: DataOptions, seed: int) -> str:
    """Return a digest of everything that the prepared data depend on."""
    digest = hashlib.sha256(f"{raw.spec}{options.model_dump_json()}{seed}".encode())
    for tensor in (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _held_out(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """(N,) bool, the validation images: the same fraction of every class, at least one left."""
    held = torch.zeros(len(labels), dtype=torch.bool)
    generator = seeded(seed, "validation split")
    for label in torch.unique(labels):
        members = (labels == label).nonzero().flatten()
        size = min(int(len(members) * fraction), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:size]]] = True
    return held
