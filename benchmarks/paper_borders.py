"""Figure 8's claim in numbers: how much colours change where one class ends and the next begins.

Measured on poster.png, un-whitened pixels of 0 to 255: the mean absolute difference of two pixels
side by side, and of two one above the other, across borders of class cells and elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distill_core.artefact.artefact import load_whole
from distill_core.artefact.contents import POSTER

Pixels = NDArray[np.float64]


class Change(NamedTuple):
    """Mean absolute differences of neighbours, in levels of 256.

    Attributes:
        border: of two pixels in different class cells.
        elsewhere: of two pixels in the same.
    """

    border: float
    elsewhere: float


def changes(pixels: Pixels, rows: int, cols: int) -> tuple[Change, Change]:
    """Return the changes from left to right, and from top to bottom.

    Args:
        pixels: (H, W, C) levels.
        rows: of class cells, all equally high.
        cols: of class cells, all equally wide.
    """
    return _along(pixels.swapaxes(0, 1), cols), _along(pixels, rows)


def _along(pixels: Pixels, cells: int) -> Change:
    """Return the changes along the first axis."""
    found = np.abs(np.diff(pixels, axis=0)).mean(axis=(1, 2))
    borders = [round(k * len(pixels) / cells) - 1 for k in range(1, cells)]
    across, within = found[borders], np.delete(found, borders)
    return Change(float(across.mean()), float(within.mean()))


def borders_of(run_dir: Path) -> str:
    """Say how colours change on the poster of a run."""
    whole = load_whole(run_dir)
    height, width = whole.distilled.metadata["canvas_hw"]
    with Image.open(run_dir / POSTER) as picture:  # enlarged, each pixel to equal squares
        scale = picture.height // height
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float64)[::scale, ::scale]
    rows, cols = whole.tensors["class_grid"].shape
    beside, below = changes(pixels[:height, :width], rows, cols)
    return (
        f"colours of neighbouring pixels differ by {beside.border:.1f} of 256 levels across class "
        f"borders from left to right, {beside.elsewhere:.1f} elsewhere; from top to bottom by "
        f"{below.border:.1f} and {below.elsewhere:.1f}"
    )
