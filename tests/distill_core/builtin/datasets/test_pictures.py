from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from distill_core.builtin.datasets.open_tree import open_tree
from distill_core.builtin.datasets.pictures import is_picture, read_pictures, usual_size
from distill_core.data.picture_files import MOST_CLAIMED, decode_picture
from registry import InputError
from tests.distill_core.builtin.datasets.picture_files import encoded, folder, png

RED = (250, 10, 20)


def _read(
    tmp_path: Path, *contents: bytes, size: int | None = None, colour: str = "auto"
) -> Tensor:
    files = [f"{number}.png" for number in range(len(contents))]
    folder(tmp_path, dict(zip(files, contents, strict=True)))
    with open_tree(tmp_path, next="look.") as tree:
        (images,) = read_pictures(
            tree,
            [files],
            size=size or usual_size(tree, files[0]),
            colour=colour,  # type: ignore[arg-type]
        )
        return images


def _noise(width: int, height: int) -> Image.Image:
    numbers = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(numbers)


def _transparent() -> Image.Image:
    """Left half red, right half black but fully transparent."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 4, 8))
    return image


def test_pixels_are_kept_where_no_scaling_is_needed(tmp_path: Path) -> None:
    image = _noise(8, 8)
    read = _read(tmp_path, encoded(image))
    assert read.dtype == torch.uint8
    assert torch.equal(read[0], torch.from_numpy(np.array(image)).permute(2, 0, 1))


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (16, 16), (6, 10)])
def test_the_shorter_side_is_scaled_with_antialiasing_and_the_centre_cut_out(
    tmp_path: Path, width: int, height: int
) -> None:
    image = _noise(width, height)
    pixels = reference.pil_to_tensor(image)
    scaled = reference.resize(pixels, [12], InterpolationMode.BILINEAR, antialias=True)
    read = _read(tmp_path, encoded(image), size=12)
    expected = reference.center_crop(scaled, [12, 12])
    assert (read[0].int() - expected.int()).abs().max() <= 1


def test_the_default_size_is_that_of_the_first_image(tmp_path: Path) -> None:
    assert _read(tmp_path, png(7, 12, 9), png(7, 30, 30)).shape == (2, 1, 9, 9)


@pytest.mark.parametrize(
    ("image", "channels", "left", "right"),
    [
        (Image.new("1", (8, 8), 1), 1, (255,), (255,)),
        (Image.new("L", (8, 8), 77), 1, (77,), (77,)),
        (Image.new("LA", (8, 8), (77, 0)), 1, (255,), (255,)),
        (Image.new("RGB", (8, 8), RED), 3, RED, RED),
        (_transparent(), 3, RED, (255, 255, 255)),
        (_transparent().convert("P"), 3, None, None),
        (Image.new("RGB", (8, 8), RED).quantize(4), 3, RED, RED),
        (Image.fromarray(np.full((8, 8), 51 * 257, np.uint16)), 1, (51,), (51,)),
        (Image.fromarray(np.full((8, 8), 65535, np.uint16)), 1, (255,), (255,)),
    ],
    ids=["1", "L", "LA", "RGB", "RGBA", "P+A", "P", "16 bit", "16 bit white"],
)
def test_every_mode_of_png_has_a_meaning(
    tmp_path: Path,
    image: Image.Image,
    channels: int,
    left: tuple[int, ...] | None,
    right: tuple[int, ...] | None,
) -> None:
    read = _read(tmp_path, encoded(image))
    assert read.shape == (1, channels, 8, 8)
    if left is not None and right is not None:
        assert tuple(read[0, :, 4, 1].tolist()) == left
        assert tuple(read[0, :, 4, 6].tolist()) == right


def test_a_transparent_colour_of_a_palette_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, *RED])
    image.paste(1, (0, 0, 4, 8))
    read = _read(tmp_path, encoded(image, transparency=0))
    assert read[0, :, 4, 1].tolist() == list(RED)
    assert read[0, :, 4, 6].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["CMYK", "RGB", "L"])
def test_jpeg_modes(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (16, 16), (90, 90, 90)).convert(mode)
    read = _read(tmp_path, encoded(image, "JPEG", quality=95))
    assert read.shape == (1, 1 if mode == "L" else 3, 16, 16)
    assert (read.int() - 90).abs().max() <= 3


def test_a_large_jpeg_is_scaled_as_a_lossless_picture_is(tmp_path: Path) -> None:
    smooth = _noise(6, 6).resize((640, 480), Image.Resampling.BICUBIC)
    lossy = _read(tmp_path / "lossy", encoded(smooth, "JPEG", quality=95), size=16)
    exact = _read(tmp_path / "exact", encoded(smooth), size=16)
    assert (lossy.int() - exact.int()).abs().max() <= 8


@pytest.mark.parametrize("form", ["JPEG", "MPO"])  # phones write the latter
@pytest.mark.parametrize(("tag", "turns"), [(6, 1), (8, -1)])
def test_a_lying_photo_is_decoded_as_finely_as_one_that_stands(
    tag: int, turns: int, form: str
) -> None:
    waves = 127 + 120 * np.sin(np.arange(256) * 2 * np.pi / 8)  # lost at a quarter of the size
    upright = np.tile(waves.astype(np.uint8)[None, :, None], (1024, 1, 3))
    lying = np.ascontiguousarray(np.rot90(upright, turns))
    exif = Image.Exif()
    exif[0x0112] = tag
    several = {"save_all": True, "append_images": [Image.fromarray(lying)]} if form == "MPO" else {}
    seen, expected = (
        np.asarray(decode_picture(data, "photo", hw=(32, 128)), dtype=float)
        for data in (
            encoded(Image.fromarray(lying), form, exif=exif, quality=98, **several),
            encoded(Image.fromarray(upright), "JPEG", quality=98),
        )
    )
    assert np.abs(seen - expected).max() < 3


def test_orientation_tags_are_obeyed(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste(RED, (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    read = _read(tmp_path, encoded(image, "PNG", exif=exif))
    assert read[0, :, 1, 4].tolist() == [0, 0, 0]
    assert read[0, :, 6, 4].tolist() == list(RED)


def test_colour_is_automatic_or_chosen(tmp_path: Path) -> None:
    both = (png(100), png(RED))
    assert _read(tmp_path, png(100), png(50)).shape[1] == 1
    mixed = _read(tmp_path, *both)
    assert mixed[0, :, 0, 0].tolist() == [100, 100, 100]
    assert mixed[1, :, 0, 0].tolist() == list(RED)
    grey = _read(tmp_path, *both, colour="grey")
    assert grey.shape[1] == 1
    assert grey[1, 0, 0, 0] == Image.new("RGB", (1, 1), RED).convert("L").getpixel((0, 0))
    assert _read(tmp_path, png(100), colour="rgb").shape[1] == 3


def _float_tiff() -> bytes:
    return encoded(Image.new("F", (8, 8), 1.5), "TIFF")


def _wide_tiff() -> bytes:
    return encoded(Image.fromarray(np.full((8, 8), 70000, np.int32)), "TIFF")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "of no format that is known"),
        (b"no picture", "of no format that is known"),
        (encoded(_noise(32, 32))[:-200], "truncated|broken"),
        (encoded(_noise(32, 32), "JPEG")[:-200], "truncated"),
        (_float_tiff(), "mode .F. and values of an unknown range"),
        (_wide_tiff(), "mode .I. and values of an unknown range"),
    ],
    ids=["empty", "text", "half a PNG", "half a JPEG", "floating point", "32 bits"],
)
def test_a_picture_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as raised:
        _read(tmp_path, png(1), content, size=8)
    assert raised.value.what.startswith(f"{tmp_path / '1.png'} cannot be read as an image")
    assert raised.value.next == "replace, convert or remove it."


def test_the_first_picture_decides_the_size_only_if_it_can(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0\.png cannot be read as an image"):
        _read(tmp_path, b"no picture")
    with pytest.raises(InputError, match="measures 300 x 400") as raised:
        _read(tmp_path, png(0, 300, 400))
    assert "-o dataset.size=32" in raised.value.next
    assert _read(tmp_path, png(0, 300, 400), size=300).shape == (1, 1, 300, 300)


def test_pictures_are_known_by_their_names() -> None:
    assert is_picture("a/b.JPEG")
    assert is_picture("x.png")
    assert not is_picture("readme.txt")
    assert not is_picture("png")


def test_a_picture_that_claims_to_be_huge_is_not_decoded(tmp_path: Path) -> None:
    data = bytearray(png(RED))
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height in the header
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    for size in (8, None):
        with pytest.raises(InputError, match=r"0\.png cannot be read as an image"):
            _read(tmp_path, bytes(data), size=size)


@pytest.mark.parametrize(("width", "refused"), [(9_000, False), (11_000, True)])
def test_pixels_are_counted_before_they_are_decoded(
    tmp_path: Path, width: int, refused: bool
) -> None:
    many = encoded(Image.new("1", (width, 4_000)))
    if refused:
        with pytest.raises(InputError, match="11000 x 4000, more than 36 million") as caught:
            _read(tmp_path, many, size=8)
        assert caught.value.expected is not None
        assert "no larger than 36 million pixels (JPEG: 89)" in caught.value.expected
    else:
        assert _read(tmp_path, many, size=8).shape == (1, 1, 8, 8)


def test_filters_of_warnings_are_left_to_other_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They belong to the whole process: two threads that set them back leave each other's."""
    monkeypatch.setattr("warnings.catch_warnings", lambda: pytest.fail("filters are set"))
    assert _read(tmp_path, png(RED), size=8).shape == (1, 3, 8, 8)


def test_what_is_read_never_makes_pillow_warn() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MOST_CLAIMED <= Image.MAX_IMAGE_PIXELS


def test_a_file_that_would_start_a_program_is_not_given_to_it(tmp_path: Path) -> None:
    # Pillow hands PostScript to Ghostscript, whatever the file is called.
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    with pytest.raises(InputError, match="of no format that is known"):
        _read(tmp_path, script, size=8)
