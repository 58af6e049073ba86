from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from distill_core.artefact.pictures import (
    MIN_GRID_WIDTH,
    MIN_WIDTH,
    average_items,
    grid_picture,
    label_heat_map,
    pictures,
    poster_array,
    sheet,
    to_bytes,
    unwhitened_canvases,
)
from distill_core.contracts.data import RealData
from distill_core.contracts.gather import gather_boxes
from distill_core.contracts.geometry import Boxes, Layout
from distill_core.contracts.streams import seeded
from distill_core.data.whitening import fit_whitening
from distill_core.testing.small import image_layout, poster_layout, small_data
from tests.distill_core.conftest import MakeSynthetic


@pytest.fixture(scope="module")
def real() -> RealData:
    return small_data(6)


def zca(real: RealData, kind: str = "zca") -> RealData:
    pictures = torch.randint(
        256, (60, *real.spec.image_shape), dtype=torch.uint8, generator=seeded(0, "zca")
    )
    return dataclasses.replace(real, whitening=fit_whitening(kind, pictures, strength=0.1))


@given(
    canvas=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    hw=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    corners=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=5
    ),
)
@settings(deadline=None, max_examples=50)
def test_averaging_equals_a_loop_over_pixels(
    canvas: tuple[int, int], hw: tuple[int, int], corners: list[tuple[int, int, int]]
) -> None:
    height, width = canvas
    h, w = hw
    places = [(k, y % height, x % width) for k, y, x in corners]
    boxes = Boxes.of(
        torch.tensor([k for k, _, _ in places]),
        torch.tensor([[y, x, y + h, x + w] for _, y, x in places]),
    )
    layout = Layout(canvas, 2, boxes, boxes, torch.zeros(len(boxes)).long(), (1, 1), wraps=True)
    images = torch.rand(len(places), 2, h, w, generator=seeded(0, "images"))
    under: dict[tuple[int, int, int], list[torch.Tensor]] = {}
    for image, (k, y, x) in zip(images, places, strict=True):
        for dy in range(h):
            for dx in range(w):
                place = (k, (y + dy) % height, (x + dx) % width)
                under.setdefault(place, []).append(image[:, dy, dx])
    means = {place: torch.stack(values).mean(0) for place, values in under.items()}
    background = torch.stack(list(means.values())).mean(0)
    found = average_items(images, layout)
    assert found.shape == (2, 2, height, width)
    for k in range(2):
        for y in range(height):
            for x in range(width):
                expected = means.get((k, y, x), background)
                assert torch.allclose(found[k, :, y, x], expected, atol=1e-6)


@pytest.mark.parametrize("wraps", [False, True])
def test_a_standardised_poster_gets_its_colours_back(
    real: RealData, make_synthetic: MakeSynthetic, wraps: bool
) -> None:
    synthetic = make_synthetic(real, poster_layout(wraps=wraps))
    picture = torch.rand(1, 3, 20, 23, generator=seeded(0, "picture"))
    with torch.no_grad():
        synthetic.representation.stored.copy_(real.whitening.apply(picture))
    assert torch.allclose(unwhitened_canvases(synthetic, real), picture, atol=1e-5)


@pytest.mark.parametrize("kind", ["zca", "zca_kornia"])
def test_zca_is_undone_image_by_image(
    real: RealData, make_synthetic: MakeSynthetic, kind: str
) -> None:
    whitened = zca(real, kind)
    matrix = whitened.whitening.values["matrix"].double()
    mean = whitened.whitening.values.get("mean", torch.zeros(192))
    synthetic = make_synthetic(whitened, image_layout(6))
    flat = synthetic.representation.stored.detach().double().flatten(1)
    expected = torch.linalg.solve(matrix, flat, left=False) + mean
    shown = unwhitened_canvases(synthetic, whitened).double().flatten(1)
    assert torch.allclose(shown, expected, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("wraps", [False, True])
def test_patches_that_whiten_a_poster_show_the_poster(
    real: RealData, make_synthetic: MakeSynthetic, wraps: bool
) -> None:
    """Whitened patch by patch and un-whitened so, overlapping patches agree again."""
    whitened = zca(real, "zca_kornia")
    synthetic = make_synthetic(whitened, poster_layout(wraps=wraps))
    layout = synthetic.placement.layout
    poster = torch.rand(1, 3, 20, 23, generator=seeded(0, "poster"))
    patches = whitened.whitening.apply(gather_boxes(poster, layout.items))
    shown = average_items(whitened.whitening.invert(patches, in_range=False), layout)
    assert torch.allclose(shown, poster, atol=1e-3)


def test_small_boxes_are_shown_at_their_size(real: RealData, make_synthetic: MakeSynthetic) -> None:
    layout = image_layout(6, size=4)
    shown = unwhitened_canvases(make_synthetic(zca(real), layout), zca(real))
    assert shown.shape == (6, 3, 4, 4)


def test_contrast_is_stretched_for_all_together() -> None:
    values = torch.linspace(-3, 5, 1000).reshape(1, 1, 10, 100)
    shown = to_bytes(values)
    assert shown.shape == (1, 10, 100, 3)
    assert shown.dtype == np.uint8
    assert (shown.min(), shown.max()) == (0, 255)
    assert np.all(np.diff(shown[..., 0].reshape(-1).astype(int)) >= 0)
    assert np.array_equal(shown[..., 0], shown[..., 2])


def test_an_even_picture_is_grey() -> None:
    assert np.all(to_bytes(torch.full((1, 3, 4, 4), 7.0)) == 128)


@pytest.mark.parametrize("shape", [(1, 60, 153), (1, 608, 1211), (10, 8, 8), (100, 32, 32)])
def test_sheets_enlarge_every_canvas_by_a_whole_number(shape: tuple[int, int, int]) -> None:
    count, height, width = shape
    canvases = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    picture, corners, factor = sheet(canvases, MIN_WIDTH)
    assert picture.shape[1] >= MIN_WIDTH
    assert len(set(corners)) == count
    for canvas, (y, x) in zip(canvases, corners, strict=True):
        part = picture[y : y + height * factor, x : x + width * factor]
        assert part.shape == (height * factor, width * factor, 3)
        assert np.array_equal(part[::factor, ::factor], canvas)
        assert np.array_equal(part[factor - 1 :: factor, factor - 1 :: factor], canvas)


@pytest.mark.parametrize("layout", [poster_layout(), image_layout(6), image_layout(6, ipc=2)])
def test_files_are_pictures_and_the_same_for_the_same_state(
    real: RealData, make_synthetic: MakeSynthetic, layout: Layout
) -> None:
    synthetic = make_synthetic(real, layout)
    files = pictures(synthetic, real)
    assert pictures(synthetic, real) == files
    assert list(files) == ["poster.png", "poster_grid.png"]
    plain = files["poster.png"]
    with Image.open(io.BytesIO(plain)) as picture:
        assert picture.mode == "RGB"
        assert picture.width >= MIN_WIDTH
        assert np.array_equal(np.asarray(picture), poster_array(synthetic, real))
    with Image.open(io.BytesIO(files["poster_grid.png"])) as grid:
        assert grid.width >= MIN_GRID_WIDTH


def test_every_cell_has_a_frame_and_a_name(real: RealData, make_synthetic: MakeSynthetic) -> None:
    synthetic = make_synthetic(real, poster_layout())
    black = np.zeros((1, 20, 23, 3), dtype=np.uint8)
    shown = np.asarray(grid_picture(black, synthetic))
    _, _, factor = sheet(black, MIN_GRID_WIDTH)
    inked = []
    for y0, x0, y1, x1 in (synthetic.placement.layout.cells.yxyx * factor).tolist():
        cell = shown[y0:y1, x0:x1]
        assert np.all(cell[0] == 255)
        assert np.all(cell[:, -1] == 255)
        inside = cell[1:-1, 1:-1]
        inked.append(inside.tobytes())
        assert inside.any()
    assert len(set(inked)) == 6  # six names, six different texts


def test_the_heat_map_shows_items_as_rows(real: RealData, make_synthetic: MakeSynthetic) -> None:
    synthetic = make_synthetic(real, image_layout(6))
    with torch.no_grad():
        synthetic.labeler.rows.copy_(torch.eye(6))
    picture = label_heat_map(synthetic)
    assert picture.dtype == np.uint8
    assert picture.shape[0] >= 256
    assert picture.shape[1] >= 256
    side = picture.shape[0] // 6
    small = picture[::side, ::side]
    assert np.all(small[np.eye(6, dtype=bool)] == (253, 231, 37))
    assert np.all(small[~np.eye(6, dtype=bool)] == (68, 1, 84))


def test_even_labels_have_a_heat_map(real: RealData, make_synthetic: MakeSynthetic) -> None:
    synthetic = make_synthetic(real, image_layout(6))
    with torch.no_grad():
        synthetic.labeler.rows.fill_(1.0)
    assert len(np.unique(label_heat_map(synthetic).reshape(-1, 3), axis=0)) == 1
