"""Convert images of any mode and size to one size, 8 bits, and 1 or 3 channels.

The shorter side decides the scale and the centre is cut out, so that nothing is distorted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from registry import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB"}
SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def fit_picture(image: Image, image_shape: tuple[int, int, int]) -> Tensor:
    """Turn a PIL image into pixels (C, h, w) uint8.

    Transparent images get a white background; 16-bit grey becomes 8-bit; orientation tags are
    applied.

    Args:
        image: any mode and size.
        image_shape: C (1 or 3), h, w.

    Raises:
        InputError: the values of its mode have no known range, as in floating point.
    """
    from PIL import Image as pillow
    from PIL import ImageOps

    channels, h, w = image_shape
    upright = ImageOps.exif_transpose(image)
    plain = eight_bit(upright).convert(MODES[channels])
    if plain.size != (w, h):
        plain = ImageOps.fit(plain, (w, h), pillow.Resampling.BILINEAR)
    data = torch.frombuffer(bytearray(plain.tobytes()), dtype=torch.uint8)
    return data.view(h, w, channels).permute(2, 0, 1)


def fit_tensor(images: Tensor, hw: tuple[int, int]) -> Tensor:
    """Scale floating-point images (n, C, H, W) to (n, C, h, w) as `fit_picture` does.

    Bilinear and antialiased; pixels beside the cut-out contribute, as in Pillow.
    """
    height, width = images.shape[-2:]
    if (height, width) == hw:
        return images
    scale = min(height / hw[0], width / hw[1])
    down = _weights(height, hw[0], scale).to(images)
    across = _weights(width, hw[1], scale).to(images)
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

    Raises:
        InputError: its values have no known range.
    """
    from PIL import Image as pillow

    grey = image.mode in {"1", "L", "LA"}
    if image.mode in SIXTEEN_BIT:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise _no_range(image)
        values = values.astype(np.int32)
        return pillow.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise _no_range(image)
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        white = pillow.new("RGBA", image.size, "white")
        image = pillow.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L" if grey else "RGB")


def _no_range(image: Image) -> InputError:
    return InputError(
        f"the image has mode '{image.mode}' and values of an unknown range.",
        expected="8 bits, or 16 bits grey.",
        next="convert it first.",
    )
