"""Real data: what a dataset hands over, and what the rest of the toolkit sees of it.

A dataset loads raw bytes (`RawData`); `RealData.prepare` splits, whitens and moves them to the
device once. The whitening maths is in `whitening.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from distill_core.option_sections import DataOptions
from distill_core.runtime import release_memory
from distill_core.streams import seeded
from distill_core.transfer import to_device
from distill_core.whitening import Whitening, chunks, fit_whitening
from registry import InputError

AUGMENTATIONS = ("flip", "rotate", "scale", "crop", "cutout", "color")
MOST_CLASSES = 10_000


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

    @property
    def is_small(self) -> bool:
        """Whether images are below 28 pixels, where nothing is published.

        Defaults that decide the cost of a run follow the papers above that, and our own
        measurements on 8x8 digits (docs/results.md) below.
        """
        return min(self.image_shape[1:]) < 28


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
    """Whitened images and their labels, on the device.

    Attributes:
        images: (N, C, h, w) as they are kept: float32, or float16 with `data.storage=float16`.
            `take` and `batch` give float32; use these, unless you need all images and no type.
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor | slice) -> Tensor:
        """Return the images at `index` to compute with: (n, C, h, w) float32."""
        return full_precision(self.images[index])

    def batch(self, size: int, *, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw images and labels uniformly without replacement; all of them if `size` >= N."""
        if size >= len(self):
            return full_precision(self.images), self.labels
        index = self.draw(size, generator=generator)
        return self.take(index), self.labels[index]

    def draw(self, size: int, *, generator: Generator) -> Tensor:
        """Draw the numbers of images, (n,) on the device: without replacement, at most all."""
        if size >= len(self):
            return torch.arange(len(self), device=self.images.device)
        index = torch.randperm(len(self), generator=generator)[:size]
        return to_device(index, self.images.device)


def full_precision(images: Tensor) -> Tensor:
    """Return half-precision images as float32, and others as they are."""
    return images.float() if images.dtype == torch.float16 else images


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
    def prepare(raw: RawData, options: DataOptions, *, seed: int, device: torch.device) -> RealData:
        """Check, split, whiten, and move to the device.

        Whitening is fitted on the training split alone. The split depends on the seed and the
        data, nothing else; every class keeps at least one training image.

        Raises:
            InputError: the arrays do not fit each other, or a class has no training image.
        """
        check_raw(raw)
        digest = fingerprint(raw, options, seed)
        generator = seeded(seed, "validation split")
        held = held_out(raw.train_labels, options.validation, generator=generator)
        whitening = fit_whitening(
            options.whitening, raw.train_images[~held], strength=options.zca_strength
        )
        release_memory()  # of the fit, before the largest tensors are made
        local = whitening.to(device)
        dtype = torch.float16 if options.storage == "float16" else torch.float32

        def split(images: Tensor, labels: Tensor, which: Tensor) -> Split:
            """Whiten the images where `which` (N,) is true, piece by piece into their place."""
            index = which.nonzero().flatten()
            result = torch.empty((len(index), *images.shape[1:]), dtype=dtype, device=device)
            for chunk in chunks(result):
                result[chunk] = local.apply(images[index[chunk]].to(device)).to(dtype)
            return Split(result, labels[index].to(device))

        return RealData(
            spec=raw.spec,
            train=split(raw.train_images, raw.train_labels, ~held),
            validation=split(raw.train_images, raw.train_labels, held),
            test=split(raw.test_images, raw.test_labels, raw.test_labels >= 0),
            whitening=whitening,
            fingerprint=digest,
        )


def check_raw(raw: RawData) -> None:
    """Refuse raw data that does not keep its contract.

    Raises:
        InputError: a shape, type, label or augmentation is wrong, or a class has no training
            images.
    """
    spec = raw.spec
    unknown = sorted(set(spec.augmentations) - set(AUGMENTATIONS))
    if unknown:
        raise _broken(
            spec,
            f"allows unknown augmentations: {', '.join(unknown)}",
            f"some of: {', '.join(AUGMENTATIONS)}",
        )
    check_class_names(spec.class_names, spec.name)
    _check_part(spec, "training", raw.train_images, raw.train_labels)
    _check_part(spec, "test", raw.test_images, raw.test_labels)
    counts = torch.bincount(raw.train_labels, minlength=spec.num_classes)
    empty = [spec.class_names[k] for k in (counts == 0).nonzero().flatten().tolist()]
    if empty:
        raise InputError(
            f"dataset '{spec.name}' has no training images of: {_shortened(empty)}.",
            expected="at least one image of every class.",
            next="add images of these classes, or remove the classes.",
        )


def check_class_names(names: Sequence[str], source: str) -> None:
    """Refuse class names that a terminal or a page could not show, or too many.

    Args:
        names: class names.
        source: the dataset or folder, for the message.

    Raises:
        InputError: there are more than `MOST_CLASSES`, or one has control characters.
    """
    if len(names) > MOST_CLASSES:
        raise InputError(
            f"{source} has {len(names)} classes.",
            expected=f"at most {MOST_CLASSES}: tables of classes by classes grow with the square.",
            next="check the path, or use fewer classes.",
        )
    strange = [name for name in names if not name.isprintable()]
    if strange:
        raise InputError(
            f"{source} has a class name with characters that cannot be shown: {strange[0]!r:.60}.",
            expected="letters, digits, spaces and signs.",
            next="rename the class.",
        )


def _check_part(spec: DataSpec, part: str, images: Tensor, labels: Tensor) -> None:
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != spec.image_shape:
        raise _broken(
            spec,
            f"has {part} images {tuple(images.shape)} of {images.dtype}",
            f"(N, {', '.join(map(str, spec.image_shape))}) of torch.uint8",
        )
    if len(images) == 0:
        raise InputError(
            f"dataset '{spec.name}' has no {part} images.",
            expected="at least one.",
            next="add some to the data.",
        )
    if labels.dtype != torch.int64 or tuple(labels.shape) != (len(images),):
        raise _broken(
            spec,
            f"has {part} labels {tuple(labels.shape)} of {labels.dtype} "
            f"for {len(images)} {part} images",
            f"({len(images)},) of torch.int64",
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= spec.num_classes:
        raise _broken(
            spec,
            f"has {part} labels from {low} to {high} but {spec.num_classes} classes",
            f"labels from 0 to {spec.num_classes - 1}",
        )


def fingerprint(raw: RawData, options: DataOptions, seed: int) -> str:
    """Return a digest of everything that the prepared data depend on."""
    # The default storage is left out: it is newer than fingerprints in artefacts that exist.
    settings = options.model_dump_json(
        exclude={"storage"} if options.storage == "float32" else None
    )
    digest = hashlib.sha256(f"{raw.spec}{settings}{seed}".encode())
    for tensor in (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().flatten().numpy().data)
    return digest.hexdigest()


def held_out(labels: Tensor, fraction: float, *, generator: Generator, at_least: int = 0) -> Tensor:
    """Choose the images to keep apart: the same fraction of every class, drawn at random.

    Args:
        labels: (N,) int64.
        fraction: 0 to 1, rounded to whole images in every class.
        generator: the source of randomness.
        at_least: images of every class to keep apart even where the fraction gives fewer; but
            one image of a class is always left.

    Returns:
        (N,) bool, true for the images that are kept apart.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    counts = torch.unique(labels, return_counts=True)[1]
    for members in torch.split(labels.argsort(stable=True), counts.tolist()):
        size = min(max(round(len(members) * fraction), at_least), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:size]]] = True
    return held


def _broken(spec: DataSpec, what: str, expected: str) -> InputError:
    """A mistake that only the author of a dataset component can have made."""
    return InputError(
        f"dataset '{spec.name}' {what}.",
        expected=f"{expected}.",
        next="mend the dataset component.",
    )


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
