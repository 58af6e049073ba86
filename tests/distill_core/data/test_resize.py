from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from distill_core.data.resize import Fit, eight_bit, fit_picture, fit_tensor, lost_by_cropping
from registry import InputError

SIDES = st.integers(1, 40)


@given(height=SIDES, width=SIDES, h=st.integers(1, 12), w=st.integers(1, 12))
def test_constant_images_stay_constant_in_any_size(height: int, width: int, h: int, w: int) -> None:
    picture = fit_picture(Image.new("RGB", (width, height), (10, 200, 30)), (3, h, w))
    assert picture.shape == (3, h, w)
    assert torch.equal(picture, torch.tensor([10, 200, 30]).view(3, 1, 1).expand(3, h, w))
    tensor = fit_tensor(torch.full((1, 2, height, width), 0.3), (h, w))
    assert tensor.shape == (1, 2, h, w)
    assert torch.allclose(tensor, torch.full_like(tensor, 0.3), atol=1e-5)


def test_images_of_the_right_size_are_not_touched() -> None:
    pixels = torch.arange(24, dtype=torch.uint8).reshape(2, 4, 3)
    picture = Image.fromarray(pixels.numpy())
    assert torch.equal(fit_picture(picture, (3, 2, 4)), pixels.permute(2, 0, 1))
    images = torch.rand(2, 3, 5, 4)
    assert fit_tensor(images, (5, 4)) is images


def test_the_centre_is_kept_and_nothing_is_distorted() -> None:
    pixels = np.zeros((8, 24), dtype=np.uint8)
    pixels[:, 6:18] = 255
    pixels[:, 11:13] = 0
    wide = Image.fromarray(pixels)
    for turn in (False, True):
        image = wide.transpose(Image.Transpose.TRANSPOSE) if turn else wide
        expected = torch.from_numpy(pixels[:, 8:16].copy())
        found = fit_picture(image, (1, 8, 8))[0]
        assert torch.equal(found.T if turn else found, expected)


def test_squashing_scales_each_side_and_loses_nothing() -> None:
    pixels = np.zeros((8, 24), dtype=np.uint8)
    pixels[:, :12] = 255
    found = fit_picture(Image.fromarray(pixels), (1, 8, 8), "squash")[0]
    assert found[:, :3].unique().tolist() == [255]  # antialiasing blurs the edge itself
    assert found[:, 5:].unique().tolist() == [0]


@given(
    height=SIDES,
    width=SIDES,
    h=st.integers(1, 12),
    w=st.integers(1, 12),
    fit=st.sampled_from(["crop", "squash"]),
)
def test_pictures_and_tensors_agree(height: int, width: int, h: int, w: int, fit: Fit) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = fit_picture(Image.fromarray(pixels), (3, h, w), fit).float()
    tensor = fit_tensor(torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), (h, w), fit)[0]
    assert float((picture - tensor).abs().max()) < 2  # Pillow rounds to bytes after each axis


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_of_white_is_white(mode: str) -> None:
    white = Image.new("L", (4, 4), 255).convert("RGB").convert(mode)
    plain = eight_bit(white)
    assert plain.mode == ("L" if mode in {"1", "L", "LA"} else "RGB")
    assert np.asarray(plain).min() == 255


def test_transparent_pixels_are_white() -> None:
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert np.asarray(eight_bit(clear)).min() == 255


def test_sixteen_bits_become_eight() -> None:
    deep = Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16))
    assert np.asarray(eight_bit(deep)).tolist() == [[0, 1, 255]]


def test_floating_point_from_0_to_1_is_as_in_arrays() -> None:
    values = np.array([[0, 0.25, 1]], dtype=np.float32)
    assert np.asarray(eight_bit(Image.fromarray(values))).tolist() == [[0, 64, 255]]


def test_the_transparent_value_of_sixteen_bit_grey_is_white() -> None:
    deep = Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16))
    deep.info["transparency"] = 0
    assert np.asarray(eight_bit(deep)).tolist() == [[255, 1, 255]]


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_colours_are_transparent_too(mode: str) -> None:
    straight = Image.new("RGBA" if mode == "RGBa" else "LA", (1, 1), 0)
    assert np.asarray(eight_bit(straight.convert(mode))).min() == 255


@pytest.mark.parametrize(
    "image",
    [
        Image.new("F", (2, 2), 1.5),
        Image.new("F", (2, 2), -0.1),
        Image.new("F", (2, 2), float("nan")),
        Image.fromarray(np.full((1, 1), -5, dtype=np.int32)),
    ],
)
def test_values_without_a_range_are_refused(image: Image.Image) -> None:
    with pytest.raises(InputError, match="unknown range"):
        eight_bit(image)


@pytest.mark.parametrize(
    ("size", "hw", "lost"),
    [((8, 8), (4, 4), 0.0), ((8, 2), (4, 4), 0.75), ((4, 8), (2, 4), 0.0), ((4, 4), (1, 2), 0.5)],
)
def test_the_part_that_is_cut_away(size: tuple[int, int], hw: tuple[int, int], lost: float) -> None:
    assert lost_by_cropping(size, hw) == lost


def test_orientation_tags_are_obeyed() -> None:
    picture = Image.fromarray(np.array([[0, 255]], dtype=np.uint8))
    picture.getexif()[0x0112] = 6  # to be turned by 90 degrees
    assert fit_picture(picture, (1, 2, 1)).flatten().tolist() == [0, 255]
