"""FreD: the choice of frequencies against plain loops."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from distill_core.builtin.representations import class_parts
from distill_core.builtin.representations.fred import Fred, FredOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Placement
from distill_core.contracts.streams import seeded
from distill_core.testing import check_representation
from registry import InputError


def spec(num_classes: int = 10, shape: tuple[int, int, int] = (3, 32, 32)) -> DataSpec:
    return DataSpec("made", tuple(map(str, range(num_classes))), shape, ())


def started(real, grid=None, **options) -> Fred:
    made = Fred(FredOptions(**options), spec=real.spec)
    grid = torch.arange(real.spec.num_classes) if grid is None else torch.tensor(grid)
    placement = Placement(made.layout, grid.reshape(made.layout.grid_shape))
    made.reset(placement, real, generator=seeded(0, "init"))
    return made


def test_the_published_budget_counts_the_places_too() -> None:
    made = Fred(FredOptions(), spec=spec(), ipc=1)
    assert made.coefficients.shape == (10 * 15, 3, 64)  # 16 without the places
    stored = sum(tensor.numel() for tensor in made.state_dict().values())
    assert stored == 10 * 15 * 3 * 64 + 10 * 64 <= 10 * 3 * 32 * 32


@pytest.mark.parametrize("most", [2**26, 2 * 6 * 5 * 2, 1], ids=["whole", "two", "single"])
def test_kept_frequencies_vary_most_in_the_real_images_of_the_class(
    make_real, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many images of the class are in memory at a time."""
    monkeypatch.setattr(class_parts, "MOST_NUMBERS", most)
    real = make_real(4, (2, 6, 5), per_class=7)
    made = started(real, grid=[2, 0, 3, 1], coefficients=4)
    for slot, label in enumerate([2, 0, 3, 1]):
        images = real.train.images[real.train.labels == label].double().numpy()
        waves = np.stack([dctn(image.mean(0), norm="ortho") for image in images])
        most = np.argsort(-waves.var(0).ravel())[:4]
        assert made.kept[slot].tolist() == sorted(most.tolist())


def test_of_a_single_image_the_lowest_frequencies_are_kept(make_real) -> None:
    """None of them varies: those of the first row would be left, and make stripes."""
    made = started(make_real(2, (1, 6, 6), per_class=1), coefficients=6)
    # (0, 0), (0, 1), (1, 0), (1, 1), and of (0, 2) and (2, 0) both
    assert made.kept.tolist() == [[0, 1, 2, 6, 7, 12]] * 2


def test_images_start_as_real_ones_of_their_class_without_the_other_frequencies(make_real) -> None:
    real = make_real(4, (2, 6, 5), per_class=3)
    made = started(real, grid=[2, 0, 3, 1], coefficients=9)
    images = made.expand(made.layout.items).detach()
    per_class = made.layout.num_canvases // 4
    for item, image in enumerate(images):
        slot = item // per_class
        members = real.train.images[real.train.labels == [2, 0, 3, 1][slot]]
        waves = dctn(members.double().numpy(), axes=(2, 3), norm="ortho")
        mask = np.zeros(30)
        mask[made.kept[slot].numpy()] = 1
        near = idctn(waves * mask.reshape(6, 5), axes=(2, 3), norm="ortho")
        assert np.abs(near - image.numpy()).max(axis=(1, 2, 3)).min() < 1e-5


def test_with_all_frequencies_real_images_are_whole(make_real) -> None:
    real = make_real(3, (1, 4, 4), per_class=1)
    made = Fred(FredOptions(coefficients=16), spec=real.spec, ipc=3)
    placement = Placement(made.layout, torch.arange(3).reshape(made.layout.grid_shape))
    made.reset(placement, real, generator=seeded(0, "init"))
    images = made.canvases().detach()
    expected = real.train.images[placement.cell_class]
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)


def test_noise_has_its_scale_and_follows_the_generator(make_real) -> None:
    real = make_real(10, (3, 8, 8))
    made = started(real, init="noise")
    scale = float(made.coefficients.detach().std())
    assert scale == pytest.approx((3 * 8 * 8) ** -0.5, rel=0.05)
    assert torch.equal(started(real, init="noise").coefficients, made.coefficients)


@pytest.mark.parametrize("options", [FredOptions(), FredOptions(init="noise", coefficients=3)])
def test_it_keeps_the_contract(options: FredOptions) -> None:
    check_representation(partial(Fred, options), name="fred")


@pytest.mark.parametrize(
    ("coefficients", "ipc", "what", "expected"),
    [
        (1025, 9, "1025 coefficients are more than images of 32x32", "at most 1024."),
        (64, 0.05, "64 coefficients a channel do not fit in --ipc 0.05", "at least 0.08333 images"),
    ],
)
def test_what_does_not_fit_is_refused(coefficients, ipc, what, expected) -> None:
    with pytest.raises(InputError) as caught:
        Fred(FredOptions(coefficients=coefficients), spec=spec(), ipc=ipc)
    assert what in caught.value.what
    assert expected in caught.value.expected
