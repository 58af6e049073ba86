"""Picture files of any format and mode as 8-bit images of one size, within bounds of memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from distill_core.data.picture_notes import PictureNotes
from distill_core.data.resize import MODES, Fit, fitted, plain_picture
from registry import ExplainedError, InputError

if TYPE_CHECKING:
    from PIL.Image import Image

# Whatever a file is called, only these decoders see it: others of Pillow start programs.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# Pixels that a file may claim to have, and that may be decoded (JPEGs are decoded at a fraction):
# a few bytes can claim more than memory holds. From just above the first, Pillow warns.
MOST_CLAIMED, MOST_DECODED = 89_000_000, 36_000_000

ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)  # the tag of cameras; values for a quarter turn
DARK = 4096  # of 65535: a single picture may be a dark one, but not of so few grey levels


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn whatever decoders raise into an `InputError` that names the picture."""
    try:
        yield
    except Exception as error:  # decoders raise a dozen kinds for damaged files
        from PIL import UnidentifiedImageError

        reason = error.what if isinstance(error, ExplainedError) else str(error)
        if isinstance(error, UnidentifiedImageError):  # whose text is a place in memory
            reason = "it is of no format that is known"
        raise InputError(
            f"{what} cannot be read as an image: {reason.rstrip('.')}.",
            expected=f"a whole {', '.join(FORMATS)} of 8 bits, or 16 bits grey, and no larger than "
            f"{MOST_DECODED // 1_000_000} million pixels (JPEG: {MOST_CLAIMED // 1_000_000}).",
            next="replace, convert or remove it.",
        ) from None


def picture_size(data: bytes, where: str) -> tuple[int, int]:
    """Return the width and height that a picture file claims.

    Raises:
        InputError: it is no picture; `where` names it.
    """
    with readable(where), _opened(data) as image:
        return image.size


def decode_picture(
    data: bytes,
    where: str,
    *,
    hw: tuple[int, int],
    mode: str | None = None,
    fit: Fit = "crop",
    notes: PictureNotes | None = None,
    name: str = "",
) -> Image:
    """Decode a picture file, turn it upright, and fit it.

    Transparent images are laid on white; 16-bit grey becomes 8-bit; orientation tags of cameras
    are obeyed; of an animation the first frame is taken.

    Args:
        data: the file.
        where: names it in errors.
        hw: height and width in pixels.
        mode: "L" or "RGB"; None: "L" if it is grey, else "RGB".
        fit: "crop" scales the shorter side and cuts out the centre, "squash" scales both sides.
        notes: counts what is lost.
        name: names it there.

    Raises:
        InputError: it is damaged, too large, or of a mode without a meaning.
    """
    h, w = hw
    with readable(where):
        with _opened(data) as image:
            size = image.height, image.width
            # Large JPEGs are decoded at a half, quarter or eighth, still twice what is needed.
            lies = image.format in ("JPEG", "MPO") and image.getexif().get(ORIENTATION) in LYING
            image.draft(None, (2 * h, 2 * w) if lies else (2 * w, 2 * h))
            _check_pixels(image, MOST_DECODED)
            plain = plain_picture(image)
            if notes is not None:
                notes.see(image)
                if fit == "crop":
                    turned = (plain.width > plain.height) != (size[1] > size[0])
                    notes.crop(size[::-1] if turned else size, hw, name)
        return fitted(plain if mode is None else plain.convert(mode), hw, fit)


@dataclass(frozen=True)
class PictureLoader:
    """Reads a picture file as the training data were read from their folder.

    For torchvision's `ImageFolder(folder, loader=..., transform=distilled.transform)`, whose own
    loader clips 16-bit grey to white and drops transparency. Can be pickled.

    Attributes:
        image_shape: C (1 or 3), h, w of the result.
        fit: "crop" or "squash", as the training data were fitted.
    """

    image_shape: tuple[int, int, int]
    fit: Fit = "crop"

    def __call__(self, path: str | Path) -> Image:
        """Return a PIL image of 8 bits, upright, of the size of the training data.

        Raises:
            InputError: the file is missing, damaged, or no picture.
        """
        channels, h, w = self.image_shape
        if channels not in MODES:
            raise InputError(
                f"images of {channels} channels are no pictures.",
                expected="1 or 3 channels.",
                next="read the files yourself, and give distilled.transform tensors.",
            )
        with readable(str(path)):
            data = Path(path).read_bytes()
        with told(stacklevel=2) as notes:
            return decode_picture(
                data,
                str(path),
                hw=(h, w),
                mode=MODES[channels],
                fit=self.fit,
                notes=notes,
                name="it",
            )


@contextmanager
def told(*, stacklevel: int) -> Iterator[PictureNotes]:
    """Count what is lost of a single picture, and warn the caller of a Python function.

    Args:
        stacklevel: 2 is the caller of the function that has this block.
    """
    notes = PictureNotes(dark_below=DARK)
    yield notes
    for line in notes.lines():
        warnings.warn(line, stacklevel=stacklevel + 2)  # past this function and contextlib's


@contextmanager
def _opened(data: bytes) -> Iterator[Image]:
    from PIL import Image

    # No filter of warnings is set meanwhile: it would be that of all threads.
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        _check_pixels(image, MOST_CLAIMED)
        yield image


def _check_pixels(image: Image, most: int) -> None:
    if image.width * image.height > most:
        raise ValueError(
            f"it measures {image.width} x {image.height}, more than {most // 1_000_000} million "
            "pixels"
        )
