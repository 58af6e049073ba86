"""Augmentation: what each operation does, and that a draw can be applied again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from distill_core.contracts.data import AUGMENTATIONS
from distill_core.contracts.streams import seeded
from distill_core.data.augment import STRATEGIES, Augmentation, Draw
from registry import UnknownNameError

NUM, HW = 5, (8, 10)


def some_images(num: int = NUM, hw: tuple[int, int] = HW) -> Tensor:
    return torch.randn(num, 3, *hw, dtype=torch.float64, generator=seeded(0, "images"))


def drawn(name: str, num: int = NUM, hw: tuple[int, int] = HW, *, seed: int = 0) -> Draw:
    return Augmentation((name,)).draw(num, hw, generator=seeded(seed, "draw"))


def test_strategies_keep_what_the_data_allow() -> None:
    named = Augmentation.named
    assert named("none", AUGMENTATIONS).operations == ()
    assert named("flip_rotate", AUGMENTATIONS).operations == ("flip", "rotate")
    assert named("flip_rotate", ("rotate", "scale")).operations == ("rotate",)
    assert set(named("dsa", AUGMENTATIONS).operations) == set(AUGMENTATIONS)
    assert named("dsa", ()).operations == ()


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(UnknownNameError) as caught:
        Augmentation.named("flip_rotat", AUGMENTATIONS)
    assert caught.value.nearest == "flip_rotate"


def test_nothing_to_choose_from_is_the_identity() -> None:
    images = some_images()
    augmentation = Augmentation.named("flip_rotate", ("crop",))
    assert augmentation.apply(images, augmentation.draw(NUM, HW, generator=seeded(0))) is images


def test_one_operation_for_the_batch_all_equally_often() -> None:
    generator = seeded(0)
    augmentation = Augmentation.named("flip_rotate", AUGMENTATIONS)
    names = [augmentation.draw(1, HW, generator=generator).operation for _ in range(400)]
    assert 150 < names.count("flip") < 250
    assert set(names) == {"flip", "rotate"}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_draw_is_replayable_sliceable_and_differentiable_in_float64(name: str) -> None:
    images = some_images().requires_grad_()
    draw = drawn(name)
    applied = Augmentation.apply(images, draw)
    assert applied.dtype == torch.float64
    assert applied.shape == images.shape
    assert not torch.equal(applied, images)
    assert torch.equal(applied, Augmentation.apply(images, drawn(name)))
    assert torch.equal(applied[1:3], Augmentation.apply(images[1:3], draw[1:3]))
    assert torch.autograd.gradcheck(
        lambda values: Augmentation.apply(values, draw[:1]), images[:1].detach().requires_grad_()
    )


@given(strategy=st.sampled_from(sorted(STRATEGIES)), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_drawing_leaves_global_randomness_alone(strategy: str, seed: int) -> None:
    before = torch.get_rng_state()
    augmentation = Augmentation.named(strategy, AUGMENTATIONS)
    draw = augmentation.draw(NUM, HW, generator=seeded(seed))
    again = augmentation.draw(NUM, HW, generator=seeded(seed))
    assert torch.equal(before, torch.get_rng_state())
    assert draw.operation == again.operation
    assert torch.equal(draw.values, again.values)


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = some_images(200)
    flipped = Augmentation.apply(images, drawn("flip", 200))
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, images, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130


def test_rotate_is_affine_grid_with_angles_up_to_15_degrees() -> None:
    images = some_images(300, (8, 8))
    draw = drawn("rotate", 300, (8, 8))
    degrees = draw.values[:, 0]
    assert 14 < float(degrees.abs().max()) <= 15
    assert abs(float(degrees.mean())) < 1.5
    angle = torch.deg2rad(degrees.double())
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack([cos, -sin, none, sin, cos, none], 1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    expected = functional.grid_sample(images, grid, align_corners=False)
    assert torch.allclose(Augmentation.apply(images, draw), expected, atol=1e-12)


def test_scale_is_affine_grid_with_a_factor_for_each_axis() -> None:
    images = some_images(200)
    draw = drawn("scale", 200)
    assert float(draw.values.min()) >= 1 / 1.2
    assert float(draw.values.max()) <= 1.2
    assert float(draw.values.min()) < 0.85
    y, x = draw.values.double().unbind(1)
    none = torch.zeros_like(y)
    theta = torch.stack([x, none, none, none, y, none], 1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    expected = functional.grid_sample(images, grid, align_corners=False)
    assert torch.allclose(Augmentation.apply(images, draw), expected, atol=1e-12)


def test_crop_moves_by_whole_pixels_and_fills_with_zeros() -> None:
    images = some_images(100, (32, 16))
    draw = drawn("crop", 100, (32, 16))
    assert draw.values.abs().amax(0).tolist() == [4, 2]
    moved = Augmentation.apply(images, draw)
    padded = functional.pad(images, (2, 2, 4, 4))
    for k, (dy, dx) in enumerate(draw.values.long().tolist()):
        expected = padded[k, :, 4 + dy : 36 + dy, 2 + dx : 18 + dx]
        assert torch.allclose(moved[k], expected, atol=1e-12)


def test_cutout_zeroes_a_box_of_half_the_sides() -> None:
    images = some_images(100) + 10
    holes = Augmentation.apply(images, drawn("cutout", 100)) == 0
    assert torch.equal(holes[:, 0], holes[:, 2])
    heights, widths = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(holes[:, 0].sum((1, 2)), heights * widths)
    assert (int(heights.max()), int(widths.max())) == (4, 5)
    # Centres lie on the border too, where half of the box is cut off.
    assert int(heights.min()) == 2


def test_color_is_brightness_then_saturation_then_contrast() -> None:
    images = some_images(1)
    draw = drawn("color", 1)
    bright, saturation, contrast = draw.values[0].tolist()
    expected = images[0] + (bright - 0.5)
    grey = expected.mean(0)
    expected = (expected - grey) * (2 * saturation) + grey
    level = expected.mean()
    expected = (expected - level) * (contrast + 0.5) + level
    assert torch.allclose(Augmentation.apply(images, draw)[0], expected, atol=1e-12)
