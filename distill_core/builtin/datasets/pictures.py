"""Picture files of any format and mode as square 8-bit images of one size."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from distill_core.builtin.datasets.tree import FileTree
from distill_core.fitting import eight_bit
from distill_core.plugin import InputError
from registry import ExplainedError

Colour = Literal["auto", "grey", "rgb"]
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm"),
)
LARGEST_DEFAULT = 256


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


def _default_size(tree: FileTree, file: str) -> int:
    from PIL import Image

    try:
        with Image.open(BytesIO(tree.read(file))) as image:
            size = min(image.size)
    except (OSError, Image.DecompressionBombError) as error:
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
        with Image.open(BytesIO(data)) as image:
            # Large JPEGs are decoded at a half, quarter or eighth, still twice what is needed.
            image.draft(None, (2 * size, 2 * size))
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
        expected="a whole image of 8 bits, or 16 bits grey.",
        next="replace, convert or remove it.",
    )
