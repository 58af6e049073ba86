"""Picture files of a folder or an archive as square 8-bit images of one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, from_numpy

from distill_core.builtin.datasets.options import Colour, Fit
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import InputError, PictureNotes, Room, decode_picture, picture_size

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
LARGEST_DEFAULT = 256
READER = 1  # raised when the same files and options come to give other pixels or notes
MODES: dict[Colour, str | None] = {"auto": None, "grey": "L", "rgb": "RGB"}


def is_picture(file: str) -> bool:
    """Say whether a file is to be read as an image, by the end of its name."""
    return file.lower().endswith(SUFFIXES)


def read_pictures(
    tree: FileTree,
    parts: Sequence[Sequence[str]],
    *,
    size: int,
    colour: Colour,
    fit: Fit = "crop",
    notes: PictureNotes | None = None,
    room: Room | None = None,
) -> list[Tensor]:
    """Read images, scaled to `size` (antialiased).

    Transparent images are laid on white; 16-bit grey becomes 8-bit; orientation tags of cameras
    are obeyed; of an animation the first frame is taken.

    Args:
        tree: where they lie.
        parts: paths of the N images of each part.
        size: pixels.
        colour: "auto" is grey if every image is, otherwise rgb.
        fit: "crop" scales the shorter side and cuts out the centre, "squash" scales both sides.
        notes: counts what is lost.
        room: gives the memory.

    Returns:
        For each part (N, C, size, size) uint8; C is 1 for grey and 3 for rgb.

    Raises:
        InputError: an image is damaged or of a mode without a meaning; the file is named.
    """
    room, notes = room or Room(), notes or PictureNotes()
    done, noted = room.begun()
    channels = 3 if colour == "rgb" else 1
    if done:
        channels = noted["channels"]
        notes.take_over(noted["notes"])
    images = [room.empty((len(files), channels, size, size)) for files in parts]
    for part, files in enumerate(parts):
        first = min(max(done - sum(map(len, parts[:part])), 0), len(files))
        for k, file in enumerate(files[first:], start=first):
            picture = decode_picture(
                tree.read(file),
                tree.where(file),
                hw=(size, size),
                mode=MODES[colour],
                fit=fit,
                notes=notes,
                name=file,
            )
            pixels = np.array(picture)
            if pixels.ndim == 3 and channels == 1:
                channels = 3
                filled = [*map(len, parts[:part]), k]
                images = _in_colour(images, filled, room)
            images[part][k] = from_numpy(pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels)
            room.filled(1, lambda: {"channels": channels, "notes": notes.as_dict()})  # noqa: B023
    return images


def _in_colour(grey: Sequence[Tensor], filled: Sequence[int], room: Room) -> list[Tensor]:
    """Room for as many images in colour, with the first ones of each part, which are grey."""
    images = [room.empty((len(each), 3, *each.shape[2:])) for each in grey]
    for new, old, count in zip(images, grey, filled, strict=False):
        new[:count] = old[:count]
    return images


def usual_size(tree: FileTree, file: str) -> int:
    """Return the shorter side of an image, for all of them where no size is given.

    Raises:
        InputError: it is more than `LARGEST_DEFAULT`, or the file is no image.
    """
    width, height = picture_size(tree.read(file), tree.where(file))
    size = min(width, height)
    if size > LARGEST_DEFAULT:
        raise InputError(
            f"{tree.where(file)}, the first image, measures {width} x {height}.",
            expected=f"a size for all images, or images of at most {LARGEST_DEFAULT} pixels.",
            next="choose one, for example -o dataset.size=32.",
        )
    return size
