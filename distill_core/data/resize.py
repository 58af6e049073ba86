"""Convert images of any mode and size to one size, 8 bits, and 1 or 3 channels.

The shorter side decides the scale and the centre is cut out, so that nothing is distorted; or, with
fit "squash", height and width are scaled apart, so that nothing is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from registry import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Fit = Literal["crop", "squash"]
MODES = {1: "L", 3: "RGB"}
SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def fit_picture(image: Image, image_shape: tuple[int, int, int], fit: Fit = "crop") -> Tensor:
    """Turn a PIL image into pixels (C, h, w) uint8.

    Transparent images get a white background; 16-bit grey becomes 8-bit; orientation tags are
    applied.

    Args:
        image: any mode and size.
        image_shape: C (1 or 3), h, w.
        fit: "crop" or "squash".

    Raises:
        InputError: the values of its mode have no known range, as in floating point.
    """
    channels, h, w = image_shape
    plain = fitted(plain_picture(image).convert(MODES[channels]), (h, w), fit)
    data = torch.frombuffer(bytearray(plain.tobytes()), dtype=torch.uint8)
    return data.view(h, w, channels).permute(2, 0, 1)


def plain_picture(image: Image) -> Image:
    """Return a PIL image of any mode upright, as "L" if it is grey, else as "RGB".

    Every way in to distill converts pictures by this.

    Raises:
        InputError: its values have no known range.
    """
    from PIL import ImageOps

    return eight_bit(ImageOps.exif_transpose(image))


def fitted(plain: Image, hw: tuple[int, int], fit: Fit = "crop") -> Image:
    """Return an image of height and width `hw`: scaled and the centre cut out, or squashed."""
    from PIL import Image as pillow
    from PIL import ImageOps

    h, w = hw
    if plain.size == (w, h):
        return plain
    if fit == "squash":
        return plain.resize((w, h), pillow.Resampling.BILINEAR)
    return ImageOps.fit(plain, (w, h), pillow.Resampling.BILINEAR)


def lost_by_cropping(size: tuple[int, int], hw: tuple[int, int]) -> float:
    """Return the part of an image's area, 0 to 1, that is cut away to fit it to `hw`.

    Args:
        size: its height and width.
        hw: wanted height and width.

    >>> lost_by_cropping((100, 400), (32, 32))
    0.75
    """
    scale = min(size[0] / hw[0], size[1] / hw[1])
    return 1 - scale**2 * hw[0] * hw[1] / (size[0] * size[1])


def fit_tensor(images: Tensor, hw: tuple[int, int], fit: Fit = "crop") -> Tensor:
    """Scale floating-point images (n, C, H, W) to (n, C, h, w) as `fit_picture` does.

    Bilinear and antialiased; pixels beside the cut-out contribute, as in Pillow.
    """
    height, width = images.shape[-2:]
    if (height, width) == hw:
        return images
    scales = height / hw[0], width / hw[1]
    if fit == "crop":
        scales = min(scales), min(scales)
    down = _weights(height, hw[0], scales[0]).to(images)
    across = _weights(width, hw[1], scales[1]).to(images)
    return down @ images @ across.T


def _weights(size: int, wanted: int, scale: float) -> Tensor:
    """(wanted, size) weight of each old pixel in each new one: a centred tent of sum 1."""
    first = (size - wanted * scale) / 2
    centre = first + (torch.arange(wanted, dtype=torch.float64) + 0.5) * scale
    distance = (torch.arange(size) + 0.5 - centre[:, None]).abs()
    tent = (1 - distance / max(scale, 1.0)).clamp_min(0)
    return tent / tent.sum(1, keepdim=True)


def eight_bit(image: Image) -> Image:
    """Return an image of any mode as "L" if it is grey, else as "RGB".

    White is 65535 in 16-bit grey and 1 in floating point; transparent parts become white.

    Raises:
        InputError: its values have no known range.
    """
    from PIL import Image as pillow

    if image.mode in SIXTEEN_BIT:
        return pillow.fromarray(_sixteen_bit(image))
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # not a number is neither
            raise _no_range(image)
        return pillow.fromarray(np.rint(values * 255).astype(np.uint8))
    grey = image.mode in {"1", "L", "LA", "La"}
    if image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info:
        white = pillow.new("RGBA", image.size, "white")
        straight = image.convert("LA") if image.mode == "La" else image
        image = pillow.alpha_composite(white, straight.convert("RGBA"))
    return image.convert("L" if grey else "RGB")


def _sixteen_bit(image: Image) -> np.ndarray:
    """(h, w) uint8, of 16-bit grey."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise _no_range(image)
    values = values.astype(np.int32)
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # one grey value is transparent, as PNG allows
        values = np.where(values == clear, 65535, values)
    return ((values * 255 + 32767) // 65535).astype(np.uint8)


def _no_range(image: Image) -> InputError:
    return InputError(
        f"the image has mode '{image.mode}' and values of an unknown range.",
        expected="8 bits, 16 bits grey from 0 to 65535, or floating point from 0 to 1.",
        next="convert it first.",
    )
