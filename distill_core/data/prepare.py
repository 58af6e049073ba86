"""From raw images to real data: check, split, whiten, and move to the device, once per run.

A dataset loads raw bytes (`RawData`), and `prepare` makes `RealData` from them. `whitening.py` fits
the whitening.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from distill_core.config.sections import DataOptions
from distill_core.contracts.data import (
    AUGMENTATIONS,
    DataSpec,
    RawData,
    RealData,
    Split,
    can_be_shown,
)
from distill_core.contracts.streams import seeded
from distill_core.contracts.whitening import chunks
from distill_core.data.data_notes import data_notes
from distill_core.data.identity import Identity, content
from distill_core.data.stored_split import StoredSplit
from distill_core.data.whitening import fit_whitening
from distill_core.system.process import release_memory
from distill_core.system.units import shortened
from registry import InputError

MOST_CLASSES = 10_000
LONGEST_NAME = 1_000  # characters of a class name


def prepare(
    raw: RawData,
    options: DataOptions,
    *,
    seed: int,
    device: torch.device,
    check: Callable[[Identity], None] = lambda identity: None,
    on_disk: str | None = None,
) -> RealData:
    """Check, split, whiten, and move to the device; or leave images where they are mapped.

    Whitening is fitted on the training split alone. The split depends only on the seed and the
    data; every class keeps at least one training image.

    Args:
        raw: what the dataset has read.
        options: how to split and whiten.
        seed: of the split.
        device: where the data go.
        check: raises if these are not the data that are meant; called before the slow part.
        on_disk: images stay on the disk, and are whitened when they are read; a sentence on why,
            or empty. None: they go to the device.

    Raises:
        InputError: the arrays do not fit each other, or a class has no training image.
    """
    check_raw(raw)
    identity = Identity.of_raw(raw, options, seed)
    check(identity)
    generator = seeded(seed, "validation split")
    held = held_out(raw.train_labels, options.validation, generator=generator)
    whitening = fit_whitening(
        options.whitening,
        raw.train_images,
        strength=options.zca_strength,
        index=(~held).nonzero().flatten(),
        known=raw.known,
        part=f"training images without {options.validation} by seed {seed}",
    )
    release_memory()  # used by the fit, before the largest tensors are made
    local = whitening.to(device)
    dtype = torch.float16 if options.storage == "float16" else torch.float32

    def split(images: Tensor, labels: Tensor, which: Tensor) -> Split:
        """Whiten the images where `which` (N,) is true, chunk by chunk."""
        index = which.nonzero().flatten()
        if on_disk is not None:
            return StoredSplit(images, index, labels[index].to(device), local)
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
        fingerprint=identity.fingerprint,
        content=content(raw),
        notes=(*data_notes(raw), *filter(None, [on_disk])),
    )


def check_raw(raw: RawData) -> None:
    """Refuse raw data that violates its contract.

    Raises:
        InputError: a shape, type, label or augmentation is wrong, or a class has no training
            images, or two have one name.
    """
    spec = raw.spec
    unknown = sorted(set(spec.augmentations) - set(AUGMENTATIONS))
    if unknown:
        raise _broken(
            spec,
            f"allows unknown augmentations: {', '.join(unknown)}",
            f"some of: {', '.join(AUGMENTATIONS)}",
        )
    if not all(isinstance(name, str) for name in spec.class_names):
        raise _broken(spec, "has class names that are no text", "text, str(number) for example")
    check_class_names(spec.class_names, spec.name)
    _check_distinct(spec)
    _check_part(spec, "training", raw.train_images, raw.train_labels)
    _check_part(spec, "test", raw.test_images, raw.test_labels)
    counts = torch.bincount(raw.train_labels, minlength=spec.num_classes)
    empty = [spec.class_names[k] for k in (counts == 0).nonzero().flatten().tolist()]
    if empty:
        raise InputError(
            f"dataset '{spec.name}' has no training images of: {shortened(empty)}.",
            expected="at least one image of every class.",
            next="add images of these classes, or remove the classes.",
        )


def check_several(spec: DataSpec) -> None:
    """Refuse data of one class for a run.

    Raises:
        InputError: there is one class.
    """
    if spec.num_classes < 2:
        raise InputError(
            f"dataset '{spec.name}' has one class, so that every answer is right.",
            expected="at least two classes.",
            next="check the labels, or add images of other classes.",
        )


def check_class_names(names: Sequence[str], source: str) -> None:
    """Refuse too many class names, or names that a terminal or a page cannot show.

    Spaces of any kind and the joiners of scripts and emoji are fine.

    Args:
        names: class names.
        source: the dataset or folder, for the message.

    Raises:
        InputError: there are more than `MOST_CLASSES`, or one has control characters, turns the
            direction of writing, or is longer than `LONGEST_NAME`.
    """
    if len(names) > MOST_CLASSES:
        raise InputError(
            f"{source} has {len(names)} classes.",
            expected=f"at most {MOST_CLASSES}: tables of classes by classes grow with the square.",
            next="check the path, or use fewer classes.",
        )
    long = max((len(name) for name in names), default=0)
    if long > LONGEST_NAME:
        raise InputError(
            f"{source} has a class name of {long:,} characters.",
            expected=f"at most {LONGEST_NAME}.",
            next="rename the class; if it is a text, other data say the class.",
        )
    strange = [name for name in names if not can_be_shown(name)]
    if strange:
        raise InputError(
            f"{source} has a class name with characters that cannot be shown: {strange[0]!r:.60}.",
            expected="letters, digits, spaces and punctuation.",
            next="rename the class.",
        )


def _check_distinct(spec: DataSpec) -> None:
    for name, times in Counter(spec.class_names).items():
        if times > 1 or not name.strip():
            raise _broken(
                spec,
                f"has {times} class{'es' if times > 1 else ''} named {name!r:.60}",
                "a name for each class, which no other class has",
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
            next="add test images, or more images: of a class with a single one none is held out."
            if part == "test"
            else "add some to the data.",
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


def held_out(labels: Tensor, fraction: float, *, generator: Generator, at_least: int = 0) -> Tensor:
    """Choose images to hold out: the same fraction of every class, drawn at random.

    Args:
        labels: (N,) int64.
        fraction: 0 to 1, rounded to whole images in every class.
        generator: the source of randomness.
        at_least: least images of every class to hold out, even if the fraction gives fewer; one
            image of each class always stays.

    Returns:
        (N,) bool, true for the images that are held out.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    counts = torch.unique(labels, return_counts=True)[1]
    for members in torch.split(labels.argsort(stable=True), counts.tolist()):
        size = min(max(round(len(members) * fraction), at_least), len(members) - 1)
        held[members[torch.randperm(len(members), generator=generator)[:size]]] = True
    return held


def _broken(spec: DataSpec, what: str, expected: str) -> InputError:
    """Images, labels and names that do not fit each other."""
    return InputError(
        f"dataset '{spec.name}' {what}.",
        expected=f"{expected}.",
        next="correct the data, or the dataset component that reads them.",
    )
