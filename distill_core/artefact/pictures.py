"""Pictures for people: posters and contact sheets in the colours of the data, and label maps.

A picture is not data: whitening is undone, overlapping training images are averaged if it has to
be undone image by image, contrast is stretched, and small canvases are enlarged. For training,
read the tensors.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from distill_core.artefact.contents import POSTER, POSTER_GRID
from distill_core.artefact.lettering import as_drawn, font_for
from distill_core.contracts.data import RealData
from distill_core.contracts.gather import box_indices
from distill_core.contracts.geometry import Boxes, Layout
from distill_core.contracts.synthetic import SyntheticDataset

if TYPE_CHECKING:
    from PIL import Image

Picture = npt.NDArray[np.uint8]
MIN_WIDTH = 512
MIN_GRID_WIDTH = 1024
GAP = 2
WHITE = 255
# Five colours of matplotlib's viridis, from low to high.
RAMP = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)])


def pictures(synthetic: SyntheticDataset, real: RealData) -> dict[str, bytes]:
    """Return the PNGs of an artefact by name: the poster, and the same with named class cells."""
    canvases = to_bytes(unwhitened_canvases(synthetic, real))
    return {
        POSTER: to_png(to_image(sheet(canvases, MIN_WIDTH)[0])),
        POSTER_GRID: to_png(grid_picture(canvases, synthetic)),
    }


def poster_array(synthetic: SyntheticDataset, real: RealData) -> Picture:
    """Return the picture of all canvases, (H, W, 3) uint8."""
    return sheet(to_bytes(unwhitened_canvases(synthetic, real)), MIN_WIDTH)[0]


@torch.no_grad()
def patch_sheet(synthetic: SyntheticDataset, real: RealData) -> Picture:
    """Return the first 64 training images side by side, (H, W, 3) uint8."""
    images = synthetic.all().images[:64]
    return sheet(to_bytes(real.whitening.invert(images, in_range=False).cpu()), MIN_WIDTH)[0]


@torch.no_grad()
def unwhitened_canvases(synthetic: SyntheticDataset, real: RealData) -> Tensor:
    """Return all canvases in the colours of the data: (canvases, C, H, W) float32, on the CPU.

    ZCA is defined on whole training images, so each is un-whitened by itself, and pixels under
    several are averaged. Pixels under none get the mean of the others.
    """
    if real.whitening.kind in ("none", "standardise"):
        return real.whitening.invert(synthetic.representation.canvases(), in_range=False).cpu()
    layout = synthetic.placement.layout
    images = real.whitening.invert(synthetic.all().images, in_range=False).cpu()
    return average_items(images, layout)


def average_items(images: Tensor, layout: Layout) -> Tensor:
    """Put every item's image on its box and average where they overlap, also across borders.

    Args:
        images: (n, C, h, w), one for each item; resized if its box has another size.
        layout: boxes and canvases.

    Returns:
        (canvases, C, H, W); pixels under no item get the mean of the covered ones.
    """
    boxes: Boxes = layout.items
    if boxes.hw != tuple(images.shape[-2:]):
        images = functional.interpolate(images, boxes.hw, mode="bilinear", antialias=True)
    height, width = layout.canvas_hw
    rows, cols = box_indices(boxes, layout.canvas_hw)
    offset = boxes.canvas[:, None] * height + rows
    index = (offset[:, :, None] * width + cols[:, None, :]).reshape(-1)
    channels = images.shape[1]
    total = torch.zeros(layout.num_canvases * height * width, channels, dtype=images.dtype)
    total.index_add_(0, index, images.permute(0, 2, 3, 1).reshape(-1, channels))
    count = torch.bincount(index, minlength=len(total))
    covered = count > 0
    mean = total / count.clamp_min(1)[:, None]
    mean[~covered] = mean[covered].mean(0)
    return mean.view(layout.num_canvases, height, width, channels).permute(0, 3, 1, 2)


def to_bytes(canvases: Tensor) -> Picture:
    """Stretch contrast, for all canvases and channels together, and return three channels.

    The 1st percentile becomes black and the 99th white, since synthetic values have no fixed
    range.

    Args:
        canvases: (canvases, C, H, W) of 1 or 3 channels; with other numbers the first is shown.

    Returns:
        (canvases, H, W, 3) uint8.
    """
    values = canvases.numpy().transpose(0, 2, 3, 1)
    if values.shape[-1] != 3:
        values = np.repeat(values[..., :1], 3, axis=-1)
    low, high = np.percentile(values, [1, 99])
    if high <= low:
        return np.full(values.shape, 128, dtype=np.uint8)
    scaled = (values - low) / (high - low)
    stretched: Picture = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    return stretched


def sheet(canvases: Picture, min_width: int) -> tuple[Picture, list[tuple[int, int]], int]:
    """Put canvases (canvases, H, W, 3) side by side, enlarged by a whole number.

    Returns:
        The picture (h, w, 3), at least `min_width` wide; the row and column where each canvas
        starts; and the factor of enlargement.
    """
    _, height, width, _ = canvases.shape
    size, corners, factor = sheet_size(canvases.shape[:3], min_width)
    picture = np.full((*size, 3), WHITE, dtype=np.uint8)
    for canvas, (y, x) in zip(canvases, corners, strict=True):
        large = _enlarge(canvas, factor, factor)
        picture[y : y + height * factor, x : x + width * factor] = large
    return picture, corners, factor


def sheet_size(
    canvases: Sequence[int], min_width: int
) -> tuple[tuple[int, int], list[tuple[int, int]], int]:
    """Return the size (h, w) of a sheet of canvases (canvases, H, W), corners and factor."""
    count, height, width = canvases
    columns = min(count, math.ceil(math.sqrt(count * 1.6 * height / width)))
    rows = math.ceil(count / columns)
    factor = max(1, math.ceil(min_width / (columns * width)))
    step_y, step_x = height * factor + GAP, width * factor + GAP
    corners = [(step_y * (k // columns), step_x * (k % columns)) for k in range(count)]
    return (rows * step_y - GAP, columns * step_x - GAP), corners, factor


def grid_picture(canvases: Picture, synthetic: SyntheticDataset) -> Image.Image:
    """Return the canvases (canvases, H, W, 3) with the outline and class name of every cell."""
    from PIL import ImageDraw

    picture, corners, factor = sheet(canvases, MIN_GRID_WIDTH)
    image = to_image(picture)
    pen = ImageDraw.Draw(image)
    placement = synthetic.placement
    cells = placement.layout.cells
    names = synthetic.spec.class_names
    for canvas, box, label in zip(
        cells.canvas.tolist(), cells.yxyx.tolist(), placement.cell_class.tolist(), strict=True
    ):
        top, left = corners[canvas]
        y0, x0, y1, x1 = (factor * side for side in box)
        frame = (left + x0, top + y0, left + x1 - 1, top + y1 - 1)
        pen.rectangle(frame, outline="white")
        _write_name(pen, names[label], frame)
    return image


def _write_name(pen: Any, name: str, frame: tuple[int, int, int, int]) -> None:
    """Write a name into the upper left corner of a frame, cut to fit."""
    x0, y0, x1, y1 = frame
    shown = as_drawn(name)
    font = font_for(shown, min(18, max(9, (y1 - y0) // 6)))
    space = x1 - x0 - 4
    while shown and pen.textlength(shown, font=font) > space:
        shown = shown[:-1]
    pen.text(
        (x0 + 3, y0 + 1),
        shown,
        font=font,
        fill=(255, 255, 255),
        stroke_width=1,
        stroke_fill="black",
    )


def label_heat_map(synthetic: SyntheticDataset) -> Picture:
    """Return the soft labels as a picture (H, W, 3) uint8: an item a row, a class a column.

    Dark is zero (or the lowest value, if labels are not distributions), yellow the highest.
    """
    with torch.no_grad():
        return heat_map(synthetic.all().labels)


def heat_map(soft: Tensor) -> Picture:
    """Return labels (n, K) as `label_heat_map` does."""
    labels = soft.cpu().double().numpy()
    low, high = min(0.0, labels.min()), labels.max()
    share = (labels - low) / (high - low) if high > low else np.zeros_like(labels)
    knots = np.linspace(0, 1, len(RAMP))
    colours = np.stack([np.interp(share, knots, RAMP[:, c]) for c in range(3)], axis=-1)
    factors = [max(1, math.ceil(256 / side)) for side in labels.shape]
    picture: Picture = np.rint(colours).astype(np.uint8)
    return _enlarge(picture, *factors)


def _enlarge(picture: Picture, down: int, across: int) -> Picture:
    """Repeat every pixel, so that single pixels are visible."""
    large: Picture = picture.repeat(down, axis=0).repeat(across, axis=1)
    return large


def to_image(picture: Picture) -> Image.Image:
    """Turn (h, w, 3) or (h, w) bytes into a PIL image."""
    from PIL import Image

    return Image.fromarray(picture)


def to_png(image: Image.Image) -> bytes:
    """Return the bytes of a PNG file; equal pictures give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
