"""The items of a user's own torch `Dataset`, or a list of PIL images, as one tensor of pixels.

PIL images are converted as picture files are: turned upright, transparent parts white, 16-bit grey
to 8-bit, and grey only if all of them are.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from distill_core.data.picture_files import readable
from distill_core.data.picture_notes import PictureNotes
from distill_core.data.resize import plain_picture
from registry import ExplainedError, InputError
from registry.blame import place_in

if TYPE_CHECKING:
    from PIL.Image import Image


def read_items(data: Any, part: str, notes: PictureNotes) -> tuple[Tensor, list[Any], bool]:
    """Read a Dataset item by item.

    The default loader of torchvision's `ImageFolder`, which clips 16-bit grey and drops
    transparency, is replaced by one that does not.

    Args:
        data: gives pairs of an image, (C, H, W) or PIL, and a label.
        part: "training" or "test", for errors.
        notes: counts what is lost.

    Returns:
        (N, C, H, W) of the images' type, the N labels, and whether all images are PIL images.

    Raises:
        InputError: there are no items, one fails or is no pair, or images do not fit each other.
    """
    data = _with_right_loader(data, notes)
    images, labels, pictures = [], [], []
    for k in range(len(data)):
        item = _item(data, k, part)
        if not (isinstance(item, tuple | list) and len(item) == 2):
            raise InputError(
                f"item {k} of the {part} data is a {type(item).__name__}.",
                expected="a pair of image and label.",
                next="wrap the Dataset so that it gives pairs.",
            )
        images.append(_pixels(item[0], f"image {k} of the {part} data", notes))
        labels.append(item[1])
        pictures.append(is_picture(item[0]))
    return _stacked(images, pictures, part), labels, all(pictures)


def _item(data: Any, k: int, part: str) -> Any:
    """One item of a Dataset; what its code raises is told with the item's number.

    Raises:
        InputError: the code failed, or refused what it read.
    """
    where = f"item {k} of the {part} data cannot be read"
    try:
        return data[k]
    except ExplainedError as error:
        raise InputError(
            f"{where}: {error.what}", expected=error.expected, next=error.next
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        place = place_in(error, type(data).__module__)
        raise InputError(
            f"{where}: {type(error).__name__}: {error}{place and f' ({place})'}.",
            expected="a Dataset that gives a pair for every number below its length.",
            next=f"see what data[{k}] does.",
        ) from error


def read_list(images: Sequence[Image], part: str, notes: PictureNotes) -> Tensor:
    """Read a list of PIL images; as `read_items`."""
    found = [_pixels(each, f"image {k} of the {part} data", notes) for k, each in enumerate(images)]
    return _stacked(found, [True] * len(found), part)


def is_picture(value: Any) -> bool:
    """Say whether a value is a PIL image, without importing Pillow."""
    return hasattr(value, "getbands")


def as_tensor(value: Any, what: str) -> Tensor:
    """Return a tensor on the CPU from a tensor or an array.

    Raises:
        InputError: it holds no numbers; `what` names it.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError):
        raise InputError(
            f"the {what} cannot be read as numbers ({type(value).__name__}).",
            expected="a tensor, a NumPy array or a PIL image.",
            next="convert them first; numbers of one shape and type can be read.",
        ) from None


def as_labels(labels: Any, part: str) -> Tensor:
    """Return labels as a tensor on the CPU, (N,) of whole numbers.

    Args:
        labels: N numbers, in a tensor, an array or a sequence.
        part: "training" or "test", for errors.

    Raises:
        InputError: one is no number, which is named; or they are not whole, or negative.
    """
    array = isinstance(labels, np.ndarray)
    if isinstance(labels, list | tuple) or (array and labels.dtype.kind == "O"):
        for k, label in enumerate(labels):
            if isinstance(label, str | bytes) or label is None:
                raise _no_number(f"label {k} of the {part} data is {label!r}")
        labels = list(labels)
    elif array and labels.dtype.kind in "US" and labels.size:
        raise _no_number(f"the {part} labels are text, as {labels.flat[0].item()!r}")
    values = as_tensor(labels, f"{part} labels")
    if not values.numel():
        raise InputError(f"the {part} data are empty.", expected="images.", next="add some.")
    whole = not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
    if not whole or values.ndim != 1:
        raise InputError(
            f"the {part} labels are {values.dtype} of shape {tuple(values.shape)}.",
            expected="(N,) whole numbers from 0 to K - 1.",
            next="number the classes; argmax(1) turns one-hot rows into numbers.",
        )
    values = values.long()
    if int(values.min()) < 0:
        raise InputError(
            f"label {int(values.argmin())} of the {part} data is {int(values.min())}.",
            expected="(N,) whole numbers from 0 to K - 1.",
            next="number the classes from 0, and leave out images without a class.",
        )
    return values


def _no_number(what: str) -> InputError:
    return InputError(
        f"{what}, which is no number.",
        expected="(N,) whole numbers from 0 to K - 1.",
        next="`names, labels = numpy.unique(labels, return_inverse=True)` numbers the classes; "
        "pass the names as class_names=names. Leave out images without a class.",
    )


def as_colour(images: Tensor) -> Tensor:
    """Return grey images (..., 1, H, W) with three equal channels."""
    return torch.cat([images] * 3, dim=-3)


def _pixels(value: Any, what: str, notes: PictureNotes) -> Tensor:
    """(C, H, W): of an array as it is, of a PIL image converted."""
    if not is_picture(value):
        return as_tensor(value, what)
    with readable(f"the {what}"):
        notes.see(value)
        array = np.array(plain_picture(value))
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def _stacked(images: list[Tensor], pictures: list[bool], part: str) -> Tensor:
    if not images:
        raise InputError(f"the {part} data are empty.", expected="images.", next="add some.")
    if any(image.shape[:1] == (3,) for image in images):
        images = [
            as_colour(image) if picture and image.shape[0] == 1 else image
            for image, picture in zip(images, pictures, strict=True)
        ]
    for k, image in enumerate(images):
        if image.shape != images[0].shape:
            raise InputError(
                f"image {k} of the {part} data has shape {tuple(image.shape)}, the first "
                f"{tuple(images[0].shape)}.",
                expected="images of one shape.",
                next="resize them, for example with torchvision.transforms.v2.Resize and "
                "CenterCrop.",
            )
    return torch.stack(images)


def _with_right_loader(data: Any, notes: PictureNotes) -> Any:
    """The Dataset, or one like it whose pictures are read as they are meant."""
    folders = sys.modules.get("torchvision.datasets.folder")
    if folders is None:
        return data  # it cannot be one of torchvision's
    twin = copy.copy(data)
    if isinstance(data, Subset):
        twin.dataset = _with_right_loader(data.dataset, notes)
    elif isinstance(data, ConcatDataset):
        twin.datasets = [_with_right_loader(each, notes) for each in data.datasets]
    elif isinstance(data, folders.DatasetFolder) and data.loader is folders.default_loader:
        twin.loader = partial(_load, notes=notes)
    else:
        return data
    return twin


def _load(path: str, *, notes: PictureNotes) -> Image:
    """A picture file as RGB, which torchvision's own loader makes of all pictures, too."""
    from PIL import Image as pillow

    with readable(path), pillow.open(path) as image:
        notes.see(image)
        return plain_picture(image).convert("RGB")
