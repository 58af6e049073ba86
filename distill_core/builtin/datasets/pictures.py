"""Picture files of any format and mode as square 8-bit images of one size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distill_core.builtin.datasets.options import Colour
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import ExplainedError, InputError, eight_bit

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm"),
)
# Whatever a file is called, only these decoders see it: others of Pillow start programs.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
LARGEST_DEFAULT = 256
# Pixels that a file may claim to have, and that may be decoded (JPEGs are decoded at a fraction):
# a few bytes can claim more than memory holds.
MOST_CLAIMED, MOST_DECODED = 100_000_000, 36_000_000


def is_picture(file: str) -> bool:
    """Say whether a file is to be read as an image, by the end of its name."""
    return file.lower().endswith(SUFFIXES)


def read_pictures(
    tree: FileTree, files: Sequence[str], *, size: int | None, colour: Colour
) -> Tensor:
    """Read images: shorter side scaled to `size` (antialiased), centre cut out.

    Transparent images are laid on white; 16-bit grey becomes 8-bit; orientation tags of cameras
    are obeyed; of an animation the first frame is taken.

    Args:
        tree: where they lie.
        files: N >= 1 paths.
        size: pixels; None: the shorter side of the first image.
        colour: "auto" is grey if every image is, otherwise rgb.

    Returns:
        (N, C, size, size) uint8; C is 1 for grey and 3 for rgb.

    Raises:
        InputError: an image is damaged or of a mode without a meaning; the file is named.
    """
    size = size or _default_size(tree, files[0])
    images = np.empty((len(files), 3, size, size), dtype=np.uint8)
    colourful = False
    for image, file in zip(images, files, strict=True):
        pixels = _pixels(tree.read(file), tree.where(file), size=size, colour=colour)
        colourful |= pixels.ndim == 3
        image[:] = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels
    return torch.from_numpy(images if colourful else images[:, :1].copy())


@contextmanager
def _opened(data: bytes) -> Iterator[Image]:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image, MOST_CLAIMED)
            yield image


def _check_pixels(image: Image, most: int) -> None:
    if image.width * image.height > most:
        raise ValueError(
            f"it measures {image.width} x {image.height}, more than {most // 1_000_000} million "
            "pixels"
        )


def _default_size(tree: FileTree, file: str) -> int:
    data = tree.read(file)
    try:
        with _opened(data) as image:
            size = min(image.size)
    except Exception as error:  # decoders raise a dozen kinds for damaged files
        raise _unreadable(tree.where(file), error) from None
    if size > LARGEST_DEFAULT:
        raise InputError(
            f"{tree.where(file)}, the first image, measures {image.width} x {image.height}.",
            expected=f"a size for all images, or images of at most {LARGEST_DEFAULT} pixels.",
            next="choose one, for example -o dataset.size=32.",
        )
    return size


def _pixels(data: bytes, where: str, *, size: int, colour: Colour) -> np.ndarray:
    """(size, size) uint8 for grey, (size, size, 3) for colour."""
    from PIL import Image, ImageOps

    try:
        with _opened(data) as image:
            # Large JPEGs are decoded at a half, quarter or eighth, still twice what is needed.
            image.draft(None, (2 * size, 2 * size))
            _check_pixels(image, MOST_DECODED)
            ImageOps.exif_transpose(image, in_place=True)
            plain = eight_bit(image)
        if colour != "auto":
            plain = plain.convert("L" if colour == "grey" else "RGB")
        return np.asarray(ImageOps.fit(plain, (size, size), Image.Resampling.BILINEAR))
    except Exception as error:  # decoders raise a dozen kinds for damaged files
        raise _unreadable(where, error) from None


def _unreadable(where: str, error: Exception) -> InputError:
    reason = error.what if isinstance(error, ExplainedError) else str(error)
    return InputError(
        f"{where} cannot be read as an image: {reason.rstrip('.')}.",
        expected=f"a whole {', '.join(FORMATS)} of 8 bits, or 16 bits grey, and no larger than "
        f"{MOST_DECODED // 1_000_000} million pixels.",
        next="replace, convert or remove it.",
    )
