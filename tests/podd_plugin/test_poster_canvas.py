"""Posters whose canvas is decoded: against plain loops, their budget, their start, their layout."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import idctn

from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Placement
from distill_core.contracts.streams import seeded
from distill_core.testing import check_representation
from distill_core.testing.assertions import perturb
from podd_plugin import poster_canvas
from podd_plugin.options import PosterOptions
from podd_plugin.poster import Poster
from registry import InputError, OptionError, check_options
from tests.distill_core.testing.faults import fault

LINEAR = ("frequencies", "bases", "lowrank")
DECODED = (*LINEAR, "gaussians")


def spec(num_classes: int = 10, shape: tuple[int, int, int] = (3, 32, 32)) -> DataSpec:
    return DataSpec("made", tuple(map(str, range(num_classes))), shape, ())


def started(real, ipc: float = 1, **options) -> Poster:
    made = Poster(PosterOptions(**options), spec=real.spec, ipc=ipc)
    grid = torch.arange(real.spec.num_classes).reshape(made.layout.grid_shape)
    made.reset(Placement(made.layout, grid), real, generator=seeded(0, "init"))
    return made


def stored(made: Poster) -> int:
    return sum(tensor.numel() for tensor in made.state_dict().values())


@pytest.mark.parametrize(
    ("canvas", "shapes"),
    [
        ("frequencies", {"coefficients": (1, 2, 5, 3, 1024)}),
        ("bases", {"bases": (33, 3, 16, 16), "coefficients": (1, 8, 20, 33)}),
        ("lowrank", {"columns": (1, 3, 128, 22), "rows": (1, 3, 22, 320)}),
    ],
)
def test_one_image_per_class_makes_a_canvas_of_four_times_its_pixels(canvas, shapes) -> None:
    made = Poster(PosterOptions(canvas=canvas), spec=spec(), ipc=1)
    assert {name: tuple(t.shape) for name, t in made.canvas.state_dict().items()} == shapes
    assert made.layout.canvas_hw == (128, 320)
    assert len(made.layout.items) == 8 * 20
    assert len(made.layout.cells) == 10
    assert stored(made) == sum(tensor.numel() for tensor in made.canvas.parameters())


@pytest.mark.parametrize(
    ("ipc", "canvases", "blocks", "points"),
    [(0.4, 1, (5, 13), 23), (1, 1, (8, 20), 24), (2, 10, (6, 6), 21)],
)
def test_blocks_of_gaussians_are_patches_that_fill_sixteen_times_the_budget(
    ipc, canvases, blocks, points
) -> None:
    made = Poster(PosterOptions(canvas="gaussians"), spec=spec(), ipc=ipc, item_draws=60 * 50)
    every = canvases * blocks[0] * blocks[1]
    assert made.layout.canvas_hw == (32 * blocks[0], 32 * blocks[1])
    assert made.canvas.means.shape == (every, points, 2)
    assert len(made.layout.items) >= every
    assert len(made.layout.cells) == 10
    assert 0.95 * ipc * 30720 < stored(made) <= ipc * 30720
    few = Poster(PosterOptions(canvas="gaussians", blocks=2), spec=spec(), ipc=1)
    assert few.canvas.means.shape[0] == 2 * 2 * 10


@pytest.mark.parametrize(
    ("shape", "ipc", "points"), [((1, 8, 8), 0.9, 4), ((1, 28, 28), 1, 24), ((3, 64, 64), 1, 96)]
)
def test_small_patches_have_as_many_gaussians_as_small_images_of_gsdd(shape, ipc, points) -> None:
    made = Poster(PosterOptions(canvas="gaussians"), spec=spec(shape=shape), ipc=ipc)
    assert abs(made.canvas.means.shape[1] - points) <= 0.15 * points
    assert stored(made) <= ipc * 10 * shape[0] * shape[1] * shape[2]


def test_patches_are_the_blocks_of_gaussians_unless_they_are_more() -> None:
    made = Poster(PosterOptions(canvas="gaussians"), spec=spec(), ipc=1, item_draws=60 * 50)
    starts = {(top, left) for top, left, _, _ in made.layout.items.yxyx.tolist()}
    assert starts == {(32 * row, 32 * col) for row in range(8) for col in range(20)}
    options = PosterOptions(canvas="gaussians", patches=(15, 39))
    more = Poster(options, spec=spec(), ipc=1, item_draws=60 * 50)
    assert len(more.layout.items) == 15 * 39


@settings(deadline=None, max_examples=25)
@given(
    options=st.fixed_dictionaries(
        {
            "canvas": st.sampled_from(DECODED),
            "area": st.floats(1, 4),
            "downsample": st.integers(1, 2),
            "per_class": st.booleans(),
        }
    ),
    num_classes=st.integers(2, 7),
    ipc=st.floats(1, 5),
)
def test_any_budget_is_kept(options, num_classes, ipc):
    made = Poster(PosterOptions(**options), spec=spec(num_classes, (3, 8, 8)), ipc=ipc)
    assert stored(made) <= ipc * num_classes * 3 * 64 * (1 + 1e-9)
    assert tuple(made.canvases().shape[-2:]) == made.layout.canvas_hw
    assert made.expand(made.layout.items).shape == (len(made.layout.items), 3, 8, 8)


def blocks_of(made: Poster, grid: tuple[int, int]) -> list[tuple[int, int, slice, slice]]:
    height, width = (side // count for side, count in zip(made.layout.canvas_hw, grid, strict=True))
    return [
        (row, col, slice(row * height, (row + 1) * height), slice(col * width, (col + 1) * width))
        for row, col in product(*map(range, grid))
    ]


def test_blocks_are_inverse_transforms_of_their_lowest_frequencies(make_real) -> None:
    made = started(make_real(4, (2, 4, 6)), canvas="frequencies").double()
    perturb(made, 0.1, seed=0)
    coefficients = made.canvas.coefficients.detach().numpy()
    count, (canvas,) = coefficients.shape[-1], made.canvases().detach().numpy()
    blocks = blocks_of(made, (2, 2))
    height, width = canvas[0][blocks[0][2:]].shape
    order = sorted(
        product(range(height), range(width)),
        key=lambda place: (place[0] / height) ** 2 + (place[1] / width) ** 2,
    )[:count]
    for row, col, down, across in blocks:
        for channel in range(2):
            waves = np.zeros((height, width))
            for place, value in zip(sorted(order), coefficients[0, row, col, channel], strict=True):
                waves[place] = value
            block = idctn(waves, norm="ortho")
            np.testing.assert_allclose(canvas[channel, down, across], block, atol=1e-6)


def test_blocks_are_mixtures_of_shared_bases(make_real) -> None:
    made = started(make_real(4, (2, 4, 6)), canvas="bases", blocks=2).double()
    perturb(made, 0.1, seed=0)
    bases, rows = (made.canvas.state_dict()[name] for name in ("bases", "coefficients"))
    (canvas,) = made.canvases().detach()
    for row, col, down, across in blocks_of(made, (4, 4)):
        block = sum(share * base for share, base in zip(rows[0, row, col], bases, strict=True))
        torch.testing.assert_close(canvas[:, down, across], block, atol=1e-12, rtol=0)


def test_channels_are_products_of_their_factors(make_real) -> None:
    made = started(make_real(4, (2, 4, 6)), canvas="lowrank").double()
    columns, rows = made.canvas.columns, made.canvas.rows
    (canvas,) = made.canvases().detach()
    for channel in range(2):
        whole = sum(
            torch.outer(column, row)
            for column, row in zip(columns[0, channel].T, rows[0, channel], strict=True)
        )
        torch.testing.assert_close(canvas[channel], whole.detach(), atol=1e-12, rtol=0)


def test_blocks_are_sums_of_gaussians(make_real) -> None:
    made = started(make_real(2, (2, 4, 8)), canvas="gaussians", area=4).double()
    perturb(made, 0.3, seed=0)
    (canvas,) = made.canvases().detach().numpy()
    state = {name: tensor.numpy() for name, tensor in made.canvas.state_dict().items()}
    blocks = blocks_of(made, (canvas.shape[1] // 4, canvas.shape[2] // 8))
    assert len(blocks) == len(state["means"]) > 2
    box = np.diag([1 / 12 * (2 / 8) ** 2, 1 / 12 * (2 / 4) ** 2])  # a pixel's, from -1 to 1
    for block, (_, _, down, across) in enumerate(blocks):
        for row, col in product(range(4), range(8)):
            pixel = np.zeros(2)
            for y, x in product((0.25, 0.75), repeat=2):
                place = np.array([2 * (col + x) / 8 - 1, 2 * (row + y) / 4 - 1])
                for mean, (l11, l21, l22), colour in zip(
                    *(state[name][block] for name in ("means", "factors", "colours")), strict=True
                ):
                    lower = np.array([[l11, 0], [l21, l22]])
                    away = place - mean
                    wave = away @ np.linalg.inv(lower @ lower.T + box) @ away
                    pixel += np.exp(-wave / 2) * colour / 4
            np.testing.assert_allclose(canvas[:, down, across][:, row, col], pixel, atol=1e-12)


def test_gaussians_are_fitted_to_the_start_in_pixels(make_real, monkeypatch) -> None:
    real = make_real(4, (2, 6, 6))
    made = started(real, canvas="gaussians", init="real", area=4)
    monkeypatch.setattr(poster_canvas, "FIT_STEPS", 0)
    loose = started(real, canvas="gaussians", init="real", area=4)
    size = "{}x{}".format(*made.layout.canvas_hw)
    whole = started(real, init="real", size=size).canvases()

    def error(each: Poster) -> float:
        return float((each.canvases() - whole).detach().square().mean())

    assert error(made) < 0.85 * min(error(loose), float(whole.detach().square().mean()))
    assert all(parameter.grad is None for parameter in made.parameters())


def test_gaussians_stay_in_their_blocks(make_real) -> None:
    made = started(make_real(2, (1, 4, 4)), canvas="gaussians", area=2)
    with torch.no_grad():
        made.canvas.means += 3
    made.project()
    assert float(made.canvas.means.detach().max()) == 63 / 64


@pytest.mark.parametrize("canvas", LINEAR)
def test_it_starts_as_near_to_the_same_start_in_pixels_as_its_numbers_allow(canvas, make_real):
    """No small change of the numbers brings it nearer: the gradient of the error vanishes there."""
    real = make_real(4, (2, 4, 6))
    made = started(real, canvas=canvas, init="real", area=2)
    size = made.layout.canvas_hw
    (whole,) = started(real, init="real", size="{}x{}".format(*size)).pixels.detach()
    error = (made.canvases()[0] - whole).square().sum()
    assert 0 < float(error.detach()) < 0.9 * float(whole.square().sum())
    for gradient in torch.autograd.grad(error, list(made.parameters())):
        assert float(gradient.abs().max()) < 1e-4


@pytest.mark.parametrize("canvas", DECODED)
@pytest.mark.parametrize(
    "more", [{}, {"downsample": 2, "cyclic": True}, {"per_class": True, "init": "real"}]
)
def test_it_keeps_the_contract(canvas, more) -> None:
    make = partial(Poster, PosterOptions(canvas=canvas, area=2, **more))
    check_representation(make, name="poster")


@pytest.mark.parametrize(
    ("options", "ipc", "what", "mended"),
    [
        (
            {"canvas": "bases", "blocks": 1, "area": 40},
            0.2,
            "a base with its coefficients takes",
            {"area": 1},
        ),
        ({"canvas": "lowrank", "area": 500}, 0.2, "rank 1 of every channel takes", {"area": 9}),
        (
            {"canvas": "gaussians", "area": 500},
            0.2,
            "one Gaussian of every block takes",
            {"area": 9},
        ),
        (
            {"canvas": "gaussians", "blocks": 19},
            0.9,
            "one Gaussian of every block takes",
            {"blocks": 18},
        ),
        (
            {"canvas": "frequencies", "blocks": 40},
            1,
            "one frequency of every block takes",
            {"blocks": 32},
        ),
        (
            {"canvas": "frequencies", "size": "33x40"},
            1,
            "cannot be cut into 2x5 blocks",
            {"size": "34x40"},
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_an_option_that_helps(options, ipc, what, mended) -> None:
    with pytest.raises(InputError) as caught:
        Poster(PosterOptions(**options), spec=spec(), ipc=ipc)
    assert what in caught.value.what
    (option,) = mended
    assert f"-o repr.{option}" in caught.value.next
    Poster(PosterOptions(**{**options, **mended}), spec=spec(), ipc=ipc)


def test_an_area_that_no_canvas_can_have_is_refused() -> None:
    with pytest.raises(OptionError, match=r"repr\.area = 1e\+308") as caught:
        check_options(PosterOptions, {"canvas": "lowrank", "area": 1e308}, where="repr")
    assert "at most 1000" in caught.value.expected


@pytest.mark.parametrize("canvas", ["pixels", *DECODED])
@pytest.mark.parametrize(
    ("counted", "sentence"),
    [
        (True, "images per class where 1.0 were asked for"),
        (False, "gives other images after its state was saved and loaded"),
    ],
)
def test_a_mask_beside_what_is_counted_is_found(canvas, counted, sentence) -> None:
    class Masked(Poster):
        mask: torch.Tensor

        def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
            super().__init__(PosterOptions(canvas=canvas), spec=spec, ipc=ipc)
            shape = (spec.num_classes, *self._shape[1:])
            self.register_buffer("mask", torch.zeros(shape), persistent=counted)

        def reset(self, placement, real, *, generator) -> None:
            super().reset(placement, real, generator=generator)
            self.mask.copy_(torch.rand(self.mask.shape, generator=generator))

        def canvases(self) -> torch.Tensor:
            return super().canvases() * self.mask[0].mean()

    assert sentence in fault(check_representation, Masked)
