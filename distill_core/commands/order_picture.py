"""The picture of a class order: the mean image and the name of every class, on the class grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill_core.artefact.lettering import as_drawn, font_for
from distill_core.artefact.pictures import to_bytes, to_image
from distill_core.contracts.data import RealData
from distill_core.layout.ordering import class_means

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

TILE = 96  # pixels: the longer side of a mean image
GAP = 8
LARGEST_FONT, SMALLEST_FONT = 13, 7


def order_picture(class_grid: Tensor, real: RealData) -> Image.Image:
    """Draw the mean training image of every class where the class sits, its name below it.

    Args:
        class_grid: (rows, cols) class numbers.
        real: the data; means are un-whitened, and their contrast is stretched together.
    """
    from PIL import Image, ImageDraw

    tiles = _tiles(real)
    width, height = tiles[0].size
    rows, cols = class_grid.shape
    line = LARGEST_FONT + 2
    names = [as_drawn(name) for name in real.spec.class_names]
    texts = [fit_name(name, width + GAP - 2) for name in names]
    lines = max(len(words) for words, _ in texts)
    step_x, step_y = width + GAP, height + lines * line + GAP
    picture = Image.new("RGB", (cols * step_x + GAP, rows * step_y + GAP), "white")
    pen = ImageDraw.Draw(picture)
    for row, labels in enumerate(class_grid.tolist()):
        for col, label in enumerate(labels):
            x, y = GAP + col * step_x, GAP + row * step_y
            picture.paste(tiles[label], (x, y))
            # An edge, for means as light as the background.
            pen.rectangle((x - 1, y - 1, x + width, y + height), outline="silver")
            words, size = texts[label]
            font = font_for(names[label], size)
            for number, text in enumerate(words):
                middle = x + width / 2 - pen.textlength(text, font=font) / 2
                pen.text((middle, y + height + 1 + number * line), text, font=font, fill="black")
    return picture


def fit_name(name: str, width: int) -> tuple[list[str], int]:
    """Break a name into at most two lines, in the largest font that fits the width.

    Args:
        name: a class name from `as_drawn`; it is broken at underscores, blanks and hyphens.
        width: pixels.

    Returns:
        The lines, and the size of the font. A word too long for the smallest font is cut.
    """
    words = name.replace("_", " ").replace("-", "- ").split()
    splits = [[" ".join(words[:k]), " ".join(words[k:])] for k in range(len(words), 0, -1)]
    for size in range(LARGEST_FONT, SMALLEST_FONT - 1, -1):
        font = font_for(name, size)
        for lines in splits:
            if all(font.getlength(text) <= width for text in lines):
                return [text for text in lines if text], size
    font = font_for(name, SMALLEST_FONT)
    middle = math.ceil(len(words) / 2)
    halves = filter(None, (" ".join(words[:middle]), " ".join(words[middle:])))
    return [_cut(text, font, width) for text in halves], SMALLEST_FONT


def _cut(text: str, font: FreeTypeFont | ImageFont, width: int) -> str:
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


@torch.no_grad()
def _tiles(real: RealData) -> list[Image.Image]:
    """The mean image of every class, enlarged by a whole number or shrunk to `TILE`."""
    from PIL import Image

    means = class_means(real).float().reshape(-1, *real.spec.image_shape)
    pictures = to_bytes(real.whitening.invert(means, in_range=False).cpu())
    height, width = pictures.shape[1:3]
    longer = max(height, width)
    factor = TILE // longer if longer <= TILE else TILE / longer
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    return [to_image(picture).resize(size, how) for picture in pictures]
