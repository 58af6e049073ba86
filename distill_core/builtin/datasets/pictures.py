"""Picture files of a folder or an archive as square 8-bit images of one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distill_core.builtin.datasets.options import Colour
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import InputError, PictureNotes, decode_picture, picture_size

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
LARGEST_DEFAULT = 256
MODES: dict[Colour, str | None] = {"auto": None, "grey": "L", "rgb": "RGB"}


def is_picture(file: str) -> bool:
    """Say whether a file is to be read as an image, by the end of its name."""
    return file.lower().endswith(SUFFIXES)


def read_pictures(
    tree: FileTree,
    files: Sequence[str],
    *,
    size: int | None,
    colour: Colour,
    notes: PictureNotes | None = None,
) -> Tensor:
    """Read images: shorter side scaled to `size` (antialiased), centre cut out.

    Transparent images are laid on white; 16-bit grey becomes 8-bit; orientation tags of cameras
    are obeyed; of an animation the first frame is taken.

    Args:
        tree: where they lie.
        files: N >= 1 paths.
        size: pixels; None: the shorter side of the first image.
        colour: "auto" is grey if every image is, otherwise rgb.
        notes: counts what is lost.

    Returns:
        (N, C, size, size) uint8; C is 1 for grey and 3 for rgb.

    Raises:
        InputError: an image is damaged or of a mode without a meaning; the file is named.
    """
    size = size or _default_size(tree, files[0])
    images = np.empty((len(files), 3, size, size), dtype=np.uint8)
    colourful = False
    for image, file in zip(images, files, strict=True):
        picture = decode_picture(
            tree.read(file),
            tree.where(file),
            hw=(size, size),
            mode=MODES[colour],
            notes=notes,
            name=file,
        )
        pixels = np.asarray(picture)
        colourful |= pixels.ndim == 3
        image[:] = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels
    return torch.from_numpy(images if colourful else images[:, :1].copy())


def _default_size(tree: FileTree, file: str) -> int:
    width, height = picture_size(tree.read(file), tree.where(file))
    size = min(width, height)
    if size > LARGEST_DEFAULT:
        raise InputError(
            f"{tree.where(file)}, the first image, measures {width} x {height}.",
            expected=f"a size for all images, or images of at most {LARGEST_DEFAULT} pixels.",
            next="choose one, for example -o dataset.size=32.",
        )
    return size
