"""A user's own images in memory as a dataset, checked like a plugin's.

Accepts `RawData`, a pair of arrays, or a map-style torch `Dataset`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill_core.contracts.data import AUGMENTATIONS, DataSpec, RawData, find_anew
from distill_core.contracts.streams import seeded
from distill_core.data.own_items import (
    as_colour,
    as_labels,
    as_tensor,
    is_picture,
    read_items,
    read_list,
)
from distill_core.data.picture_notes import PictureNotes
from distill_core.data.prepare import MOST_CLASSES, check_raw, held_out
from distill_core.hookspecs import hookimpl
from registry import Component, InputError

NAME = "own_data"  # the dataset's name in the run
TEST_FRACTION = 0.2
ACCEPTED = "RawData, a pair (images, labels) of arrays, or a torch Dataset of pairs."


@dataclass(frozen=True)
class InMemory:
    """A dataset component that returns images that are already loaded."""

    raw: RawData

    def load(self) -> RawData:
        """Return the images."""
        return self.raw


def plugin_of(raw: RawData) -> tuple[str, ModuleType]:
    """Return a plugin with the images as dataset `own_data`, for `discover(extra=)`."""

    def distill_datasets() -> list[Component]:
        return [Component(NAME, lambda options: InMemory(raw), summary="images in memory")]

    module = ModuleType("own_data")
    module.distill_datasets = hookimpl(distill_datasets)  # type: ignore[attr-defined]
    return NAME, module


def are_own(test: Any, class_names: Sequence[str] | None, augmentations: Sequence[str]) -> bool:
    """Say whether one of these, which belong to a user's images alone, was given."""
    return test is not None or class_names is not None or tuple(augmentations) != AUGMENTATIONS


def raw_data(
    data: Any,
    test: Any = None,
    *,
    class_names: Sequence[str] | None = None,
    augmentations: Sequence[str] = AUGMENTATIONS,
) -> RawData:
    """Make checked raw data from a user's images.

    Args:
        data: one of: `RawData`, which is only checked; (images, labels), with images (N, C, H, W)
            uint8, or floating point from 0 to 1, rounded to bytes, or a list of PIL images, and
            labels (N,) whole numbers; a torch Dataset of pairs of an image (such an array
            (C, H, W), or a PIL image of any mode) and its label. PIL images are turned upright,
            and transparent parts become white, as in `distilled.transform`.
        test: likewise, with images of the same shape; None keeps a fifth of every class of `data`
            for testing.
        class_names: K names, in label order; default: the Dataset's `classes`, or the numbers.
        augmentations: operations of `AUGMENTATIONS` that keep the labels.

    Raises:
        InputError: shapes, types, ranges or labels do not fit.
    """
    if isinstance(data, RawData):
        if are_own(test, class_names, augmentations):
            raise InputError(
                "test, class_names or augmentations are given beside RawData, which has its own.",
                expected="RawData alone, with test images, names and augmentations in it.",
                next="leave them out, or pass dataset=(images, labels).",
            )
        raw = replace(
            data,
            train_images=data.train_images.cpu(),
            train_labels=data.train_labels.cpu(),
            test_images=data.test_images.cpu(),
            test_labels=data.test_labels.cpu(),
            known=find_anew,
        )
        check_raw(raw)
        return raw
    notes = PictureNotes()
    images, labels, pictures = _arrays(data, "training", notes)
    for name, given in (("class_names", class_names), ("augmentations", augmentations)):
        if isinstance(given, str):
            raise InputError(
                f"{name} is text: {given!r:.40}.",
                expected="a list of names.",
                next="put it into a list, or split it.",
            )
    names = getattr(data, "classes", None) if class_names is None else class_names
    if names is None or not len(names):
        names = range(_number_of_classes(labels))
    if test is None:
        testing = held_out(labels, TEST_FRACTION, generator=seeded(0, "own data split"), at_least=1)
        test_images, test_labels = images[testing], labels[testing]
        images, labels = images[~testing], labels[~testing]
    else:
        test_images, test_labels, also = _arrays(test, "test", notes)
        if pictures and also and {images.shape[1], test_images.shape[1]} == {1, 3}:
            images, test_images = (
                as_colour(each) if each.shape[1] == 1 else each for each in (images, test_images)
            )
    c, h, w = images.shape[1:]
    spec = DataSpec(NAME, tuple(map(str, names)), (c, h, w), tuple(augmentations))
    raw = RawData(
        spec, images, labels, test_images, test_labels, (*notes.lines(), *_channel_note(c))
    )
    check_raw(raw)
    return raw


def _arrays(data: Any, part: str, notes: PictureNotes) -> tuple[Tensor, Tensor, bool]:
    """Images (N, C, H, W) uint8, labels (N,) int64, on the CPU; whether they were PIL images."""
    pictures = False
    if isinstance(data, tuple | list) and len(data) == 2 and not _is_item(data[0]):
        images, labels = data
        if isinstance(images, tuple | list) and images and all(map(is_picture, images)):
            images, pictures = read_list(images, part, notes), True
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and not _is_array(data):
        images, labels, pictures = read_items(data, part, notes)
    else:
        raise InputError(
            f"the {part} data are a {type(data).__name__}.",
            expected=ACCEPTED,
            next="pass dataset=(images, labels), or the name of a dataset.",
        )
    pixels = _bytes(as_tensor(images, f"{part} images"), part, notes)
    classes = as_labels(labels, part)
    if len(pixels) != len(classes):
        raise InputError(
            f"there are {len(pixels)} {part} images and {len(classes)} {part} labels.",
            expected="a label for each image.",
            next="correct what is passed.",
        )
    return pixels, classes, pictures


def _is_item(value: Any) -> bool:
    """Whether a value is a pair of one PIL image and its label, as in a list of two of them."""
    pair = isinstance(value, tuple | list) and len(value) == 2
    return pair and is_picture(value[0]) and not is_picture(value[1])


def _is_array(data: Any) -> bool:
    return isinstance(data, str | bytes | dict | Tensor | np.ndarray)


def _bytes(images: Tensor, part: str, notes: PictureNotes) -> Tensor:
    if images.ndim != 4 or images.shape[1] > 4:
        raise InputError(
            f"the {part} images have shape {tuple(images.shape)}.",
            expected="(N, C, H, W), channels before height and width.",
            next="images.permute(0, 3, 1, 2) moves channels that come last, images[:, None] adds "
            "one to grey images.",
        )
    if images.dtype == torch.uint8 or not len(images):
        return images
    values = images if images.is_floating_point() else images.numpy()  # PyTorch sorts no uint16
    low, high = (0.0, 0.0) if images.is_complex() else (float(values.min()), float(values.max()))
    if not images.is_floating_point() or not (low >= 0 and high <= 1):
        raise InputError(
            f"the {part} images are {images.dtype} from {low:g} to {high:g}.",
            expected="torch.uint8 from 0 to 255, or floating point from 0 to 1.",
            next="leave normalisation out, since distill whitens by itself; convert whole numbers "
            "to uint8, those of 16 bits by images // 257.",
        )
    notes.see_floats(high, f"{part} images")
    return (images * 255).round().to(torch.uint8)


def _channel_note(channels: int) -> tuple[str, ...]:
    """What is to be known of images of which one channel may be no colour."""
    if channels not in {2, 4}:
        return ()
    return (
        f"the images have {channels} channels, and all of them are distilled; if the last is "
        "transparency, pass PIL images, which are put on white, or leave that channel out.",
    )


def _number_of_classes(labels: Tensor) -> int:
    """K, from labels without names; refuses huge labels before making a name for each number."""
    largest = int(labels.max())
    if largest >= MOST_CLASSES:
        raise InputError(
            f"the largest label is {largest}.",
            expected=f"labels from 0 to K - 1, with K at most {MOST_CLASSES}.",
            next="number the classes; np.unique(labels, return_inverse=True)[1] does.",
        )
    return largest + 1
