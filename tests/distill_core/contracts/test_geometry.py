from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from distill_core.contracts.gather import gather_boxes
from distill_core.contracts.geometry import (
    Boxes,
    Layout,
    Placement,
    check_class_grid,
    class_coverage,
    grid_cells,
    overlap_area,
)
from registry import InputError


@st.composite
def boxes_on(draw, canvas_hw, *, num_canvases=2, wraps=False, size=None):
    height, width = canvas_hw
    n = draw(st.integers(1, 4))
    rows = []
    for _ in range(n):
        h, w = size or (draw(st.integers(1, height)), draw(st.integers(1, width)))
        y = draw(st.integers(0, height - 1 if wraps else height - h))
        x = draw(st.integers(0, width - 1 if wraps else width - w))
        rows.append([y, x, y + h, x + w])
    canvas = draw(st.lists(st.integers(0, num_canvases - 1), min_size=n, max_size=n))
    return Boxes.of(torch.tensor(canvas), torch.tensor(rows))


@st.composite
def scenes(draw, *, one_size=False):
    canvas_hw = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    wraps = draw(st.booleans())
    size = draw(st.tuples(*(st.integers(1, side) for side in canvas_hw))) if one_size else None
    first = draw(boxes_on(canvas_hw, wraps=wraps, size=size))
    second = draw(boxes_on(canvas_hw, wraps=wraps, size=size))
    return canvas_hw, wraps, first, second


def pixel_counts(boxes: Boxes, i: int, canvas_hw: tuple[int, int]) -> torch.Tensor:
    """(2, H, W): how often box i covers each pixel; the definition, pixel by pixel."""
    covered = torch.zeros(2, *canvas_hw, dtype=torch.int64)
    y0, x0, y1, x1 = boxes.yxyx[i].tolist()
    for y in range(y0, y1):
        for x in range(x0, x1):
            covered[int(boxes.canvas[i]), y % canvas_hw[0], x % canvas_hw[1]] += 1
    return covered


@given(scenes())
def test_overlap_area_equals_counting_pixels(scene):
    canvas_hw, wraps, a, b = scene
    area = overlap_area(a, b, period=canvas_hw if wraps else None)
    for i in range(len(a)):
        for j in range(len(b)):
            shared = pixel_counts(a, i, canvas_hw) * pixel_counts(b, j, canvas_hw)
            assert int(area[i, j]) == int(shared.sum())


@given(scenes())
def test_overlap_area_is_symmetric_and_at_most_the_smaller_area(scene):
    canvas_hw, wraps, a, b = scene
    period = canvas_hw if wraps else None
    area = overlap_area(a, b, period=period)
    assert torch.equal(area, overlap_area(b, a, period=period).T)
    sizes = [(boxes.yxyx[:, 2:] - boxes.yxyx[:, :2]).prod(1) for boxes in (a, b)]
    assert bool((area <= torch.minimum(sizes[0][:, None], sizes[1][None, :])).all())


def test_a_box_longer_than_the_period_counts_its_pixels_more_than_once():
    long = Boxes.of(torch.tensor([0]), torch.tensor([[0, 0, 1, 10]]))
    cell = Boxes.of(torch.tensor([0]), torch.tensor([[0, 1, 1, 3]]))
    # Columns 0 to 9 modulo 4: 1 and 2 occur three and two times.
    assert overlap_area(long, cell, period=(1, 4)).tolist() == [[5]]


@given(st.tuples(st.integers(1, 12), st.integers(1, 12)), st.data())
def test_grid_cells_are_nearest_neighbour_upsampling(canvas_hw, data):
    rows = data.draw(st.integers(1, canvas_hw[0]))
    cols = data.draw(st.integers(1, canvas_hw[1]))
    owner = torch.full(canvas_hw, -1)
    for cell, (y0, x0, y1, x1) in enumerate(grid_cells(canvas_hw, (rows, cols)).tolist()):
        assert bool((owner[y0:y1, x0:x1] == -1).all())
        owner[y0:y1, x0:x1] = cell
    for y in range(canvas_hw[0]):
        for x in range(canvas_hw[1]):
            expected = (y * rows // canvas_hw[0]) * cols + x * cols // canvas_hw[1]
            assert int(owner[y, x]) == expected


def test_class_coverage_counts_overlapping_cells_twice_and_adds_cells_of_a_class():
    cells = Boxes.of(torch.zeros(3), torch.tensor([[0, 0, 2, 3], [0, 2, 2, 4], [2, 0, 4, 4]]))
    box = Boxes.of(torch.tensor([0]), torch.tensor([[0, 0, 4, 4]]))
    layout = Layout((4, 4), 1, box, cells, torch.tensor([0, 1, 0]), (1, 2))
    placement = Placement(layout, torch.tensor([[1, 0]]))
    assert placement.cell_class.tolist() == [1, 0, 1]
    assert class_coverage(box, placement).tolist() == [[4, 6 + 8]]


@given(scenes(one_size=True), st.integers(0, 2**31))
def test_gather_boxes_cuts_the_pixels_of_the_boxes(scene, seed):
    canvas_hw, _, boxes, _ = scene
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(2, 3, *canvas_hw, generator=generator)
    cut = gather_boxes(pixels, boxes)
    for i in range(len(boxes)):
        y0, x0, y1, x1 = boxes.yxyx[i].tolist()
        tiled = pixels[boxes.canvas[i]].repeat(1, 2, 2)
        assert torch.equal(cut[i], tiled[:, y0:y1, x0:x1])


@given(scenes(one_size=True))
def test_gradient_of_the_summed_boxes_is_the_coverage_count(scene):
    canvas_hw, _, boxes, _ = scene
    pixels = torch.zeros(2, 1, *canvas_hw, requires_grad=True)
    gather_boxes(pixels, boxes).sum().backward()
    counts = sum(pixel_counts(boxes, i, canvas_hw) for i in range(len(boxes)))
    assert torch.equal(pixels.grad[:, 0], counts.float())


@given(scenes(one_size=True), st.integers(0, 2**31))
def test_gradient_for_any_cotangent_equals_a_loop_over_patches(scene, seed):
    canvas_hw, _, boxes, _ = scene
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.zeros(2, 2, *canvas_hw, dtype=torch.float64, requires_grad=True)
    cut = gather_boxes(pixels, boxes)
    cotangent = torch.randn(cut.shape, dtype=torch.float64, generator=generator)
    cut.backward(cotangent)
    expected = torch.zeros_like(pixels)
    for i in range(len(boxes)):
        y0, x0, y1, x1 = boxes.yxyx[i].tolist()
        for y in range(y0, y1):
            for x in range(x0, x1):
                place = (boxes.canvas[i], slice(None), y % canvas_hw[0], x % canvas_hw[1])
                expected[place] += cotangent[i, :, y - y0, x - x0]
    torch.testing.assert_close(pixels.grad, expected, rtol=0, atol=1e-12)


@given(scenes(one_size=True), st.integers(0, 2**31))
def test_gather_boxes_is_linear(scene, seed):
    canvas_hw, _, boxes, _ = scene
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 2, 1, *canvas_hw, dtype=torch.float64, generator=generator)
    together = gather_boxes(2 * a - 3 * b, boxes)
    apart = 2 * gather_boxes(a, boxes) - 3 * gather_boxes(b, boxes)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-12)


def test_boxes_of_different_sizes_have_no_common_size():
    boxes = Boxes.of(torch.zeros(2), torch.tensor([[0, 0, 2, 2], [0, 0, 2, 3]]))
    assert boxes[:1].hw == (2, 2)
    with pytest.raises(InputError, match="2 different sizes") as caught:
        _ = boxes.hw
    assert "--repr" in caught.value.next


def test_indexing_boxes_keeps_their_item_numbers():
    boxes = Boxes.of(torch.zeros(3), torch.zeros(3, 4))
    assert boxes[torch.tensor([2, 0])].item.tolist() == [2, 0]
    assert len(boxes[:2]) == 2


def test_check_class_grid_names_shape_and_missing_classes():
    good = torch.tensor([[1, 0]], dtype=torch.int32)
    assert check_class_grid(good, (1, 2)).dtype == torch.int64
    with pytest.raises(InputError, match=r"shape \(1, 2\)"):
        check_class_grid(good, (2, 1))
    with pytest.raises(InputError, match=r"missing: \[1\]"):
        check_class_grid(torch.tensor([[0, 0]]), (1, 2))


def test_coverage_needs_no_table_of_all_boxes_and_all_cells() -> None:
    """Which would take 80 GB here."""
    number = 100_000
    boxes = Boxes.of(torch.arange(number).flip(0), torch.tensor([0, 0, 2, 3]).expand(number, 4))
    slots = torch.arange(number) % 4
    layout = Layout((2, 3), number, boxes, boxes, slots, (2, 2))
    found = class_coverage(boxes, Placement(layout, torch.tensor([[3, 1], [0, 2]])))
    assert torch.equal(found, 6 * one_hot(torch.tensor([3, 1, 0, 2])[slots], 4))
