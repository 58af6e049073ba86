from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.builtin.representations.images import Images, ImagesOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Placement
from distill_core.testing import check_representation
from registry import InputError


def spec(num_classes: int, shape=(1, 4, 4)) -> DataSpec:
    return DataSpec("made", tuple(map(str, range(num_classes))), shape, ())


def reset(images: Images, real, seed: int = 0) -> Images:
    placement = Placement(
        images.layout, torch.arange(real.spec.num_classes).reshape(images.layout.grid_shape)
    )
    images.reset(placement, real, generator=torch.Generator().manual_seed(seed))
    return images


@given(st.integers(1, 12), st.integers(1, 3))
def test_every_image_is_one_canvas_one_item_and_one_cell(num_classes, ipc):
    images = Images(ImagesOptions(), spec=spec(num_classes, (3, 4, 5)), ipc=ipc)
    layout = images.layout
    assert images.pixels.shape == (num_classes * ipc, 3, 4, 5)
    assert len(layout.items) == len(layout.cells) == layout.num_canvases == num_classes * ipc
    assert layout.items.yxyx.unique(dim=0).tolist() == [[0, 0, 4, 5]]
    assert layout.cell_slot.tolist() == [slot for slot in range(num_classes) for _ in range(ipc)]
    assert layout.grid_shape[0] * layout.grid_shape[1] == num_classes
    assert torch.equal(images.expand(layout.items), images.canvases())


def test_one_image_per_class_unless_asked_otherwise():
    assert Images(ImagesOptions(), spec=spec(5)).layout.num_canvases == 5


@pytest.mark.parametrize(("ipc", "instead"), [(0.5, "--ipc 1."), (2.5, "--ipc 2.")])
def test_a_fraction_of_an_image_is_refused_with_a_way_out(ipc, instead):
    with pytest.raises(InputError) as caught:
        Images(ImagesOptions(), spec=spec(5), ipc=ipc)
    assert f"{ipc:g} images per class" in caught.value.what
    assert "--repr poster" in caught.value.next
    assert caught.value.next.endswith(instead)


@pytest.mark.parametrize(("ipc", "items"), [(1, 4), (0.25, 1), (2, 8), (0.75, 3), (0.3, 1)])
def test_half_the_sides_hold_four_images_in_the_place_of_one(ipc, items):
    images = Images(ImagesOptions(downsample=2), spec=spec(5, (3, 4, 6)), ipc=ipc)
    assert images.pixels.shape == (5 * items, 3, 2, 3)
    assert images.pixels.numel() == items / 4 * 5 * 3 * 4 * 6 <= ipc * 5 * 3 * 4 * 6
    assert images.canvases().shape == (5 * items, 3, 4, 6)


def test_small_images_are_scaled_up_wherever_they_are_asked_for(make_real):
    real = make_real(3, (2, 4, 4))
    images = reset(Images(ImagesOptions(downsample=2), spec=real.spec), real)
    some = images.layout.items[torch.tensor([7, 2, 2])]
    whole = images.canvases()
    assert torch.equal(images.expand(some), whole[[7, 2, 2]])


@pytest.mark.parametrize(
    ("options", "ipc", "what", "next"),
    [
        ({"downsample": 3}, 1, "4x4 pixels cannot be stored at 1/3", "repr.downsample"),
        ({"downsample": 4}, 0.06, "does not buy an image at 1/4 of its sides", "raise --ipc"),
    ],
)
def test_small_images_that_do_not_fit_are_refused(options, ipc, what, next):
    with pytest.raises(InputError) as caught:
        Images(ImagesOptions(**options), spec=spec(5), ipc=ipc)
    assert what in caught.value.what
    assert next in caught.value.next


def test_small_real_images_are_block_means_of_their_class(make_real):
    real = make_real(4, (1, 4, 4), per_class=5)
    images = reset(Images(ImagesOptions(init="real", downsample=2), spec=real.spec), real)
    means = torch.nn.functional.avg_pool2d(real.train.images, 2)
    for pixels, label in zip(images.pixels.detach(), [0] * 4 + [1] * 4, strict=False):
        near = (means[real.train.labels == label] - pixels).abs().amax(dim=(1, 2, 3))
        assert float(near.min()) < 1e-6


def test_small_images_keep_the_contract():
    check_representation(partial(Images, ImagesOptions(downsample=2)), name="images")


def test_noise_has_its_scale_and_follows_the_generator(make_real):
    real = make_real(10, (3, 8, 8))
    images = Images(ImagesOptions(init_scale=2.0), spec=real.spec, ipc=4)
    first = reset(images, real).pixels.detach().clone()
    assert float(first.std()) == pytest.approx(2 / (3 * 8 * 8) ** 0.5, rel=0.05)
    assert torch.equal(reset(images, real).pixels, first)
    assert not torch.equal(reset(images, real, seed=1).pixels, first)


def test_real_images_are_of_the_class_that_has_the_slot(make_real):
    real = make_real(6, (1, 4, 4), per_class=3)
    images = Images(ImagesOptions(init="real"), spec=real.spec, ipc=2)
    grid = torch.tensor([[5, 0, 3], [1, 4, 2]])
    placement = Placement(images.layout, grid)
    images.reset(placement, real, generator=torch.Generator().manual_seed(0))
    for pixels, label in zip(images.pixels.detach(), placement.cell_class.tolist(), strict=True):
        members = real.train.images[real.train.labels == label]
        assert bool((members == pixels).all(dim=(1, 2, 3)).any()) is True
    assert not torch.equal(images.pixels[0], images.pixels[1])


def test_pixels_can_be_doubles(make_real):
    real = make_real(4, (1, 4, 4))
    images = reset(Images(ImagesOptions(), spec=real.spec).double(), real)
    assert images.expand(images.layout.items).dtype == torch.float64
