from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional

from distill_core.builtin.representations.images import Images, ImagesOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Boxes, Layout, Placement, class_coverage, overlap_area
from podd_plugin.poddl import Poddl, PoddlOptions
from podd_plugin.poster import Poster, PosterOptions
from registry import InputError


def spec(num_classes: int, shape=(1, 4, 4)) -> DataSpec:
    return DataSpec("made", tuple(map(str, range(num_classes))), shape, ())


def placed(num_classes, shape, *, ipc=None, seed=0, **options) -> Placement:
    layout = Poster(PosterOptions(**options), spec=spec(num_classes, shape), ipc=ipc).layout
    order = torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed))
    return Placement(layout, order.reshape(layout.grid_shape))


def paper(num_classes, side, size, patches) -> Placement:
    """A layout of the paper; ipc only matters above 1."""
    return placed(num_classes, (3, side, side), size=size, patches=patches)


PAPERS = {
    "C10 1.0": (10, 32, "64x160", "6x16"),
    "C10 0.9": (10, 32, "60x153", "6x16"),
    "C10 0.5": (10, 32, "45x113", "6x16"),
    "C10 0.3": (10, 32, "35x87", "6x16"),
    "C100 0.9": (100, 32, "303x303", "20x20"),
    "C100 0.4": (100, 32, "202x202", "20x20"),
    "CUB 0.9": (200, 32, "302x610", "30x60"),
    "CUB 1.0": (200, 32, "320x640", "30x60"),
    "Tiny 0.9": (200, 64, "608x1211", "20x40"),
    "Tiny 1.0": (200, 64, "640x1280", "20x40"),
}


def labels_of(labeler: Poddl, boxes: Boxes) -> torch.Tensor:
    return labeler.labels(boxes, torch.zeros(len(boxes), 1, 1, 1, dtype=torch.float64))


@st.composite
def posters(draw) -> Placement:
    num_classes = draw(st.integers(1, 9))
    hw = draw(st.tuples(st.integers(2, 5), st.integers(2, 5)))
    one_each = draw(st.booleans())
    try:
        return placed(
            num_classes,
            (1, *hw),
            ipc=draw(st.floats(1 if one_each else 0.3, 3)),
            per_class=one_each,
            cyclic=draw(st.booleans()),
            patches=draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
            seed=draw(st.integers(0, 99)),
        )
    except InputError:
        assume(False)
        raise


def class_map(placement: Placement) -> torch.Tensor:
    """(canvases, H, W): the class of every pixel, painted pixel by pixel."""
    layout = placement.layout
    painted = torch.full((layout.num_canvases, *layout.canvas_hw), -1)
    for canvas, (y0, x0, y1, x1), label in zip(
        layout.cells.canvas.tolist(),
        layout.cells.yxyx.tolist(),
        placement.cell_class.tolist(),
        strict=True,
    ):
        painted[canvas, y0:y1, x0:x1] = label
    return painted


def window(stacked: torch.Tensor, boxes: Boxes, i: int) -> torch.Tensor:
    """The pixels (..., h, w) of box i of maps (canvases, ..., H, W), around the borders."""
    height, width = stacked.shape[-2:]
    y0, x0, y1, x1 = boxes.yxyx[i].tolist()
    rows = [y % height for y in range(y0, y1)]
    cols = [x % width for x in range(x0, x1)]
    return stacked[int(boxes.canvas[i])][..., rows, :][..., cols]


@given(posters(), st.integers(0, 2**31))
def test_learned_labels_equal_upsample_crop_pool_of_the_paper(placement, seed):
    layout = placement.layout
    labeler = Poddl(PoddlOptions(pooling="area"), placement=placement)
    rows = torch.rand(labeler.rows.shape, generator=torch.Generator().manual_seed(seed)) + 0.1
    labeler.rows.data.copy_(rows)
    per_canvas = len(layout.cells) // layout.num_canvases
    # Rows and columns of cells: paint the cell numbers and count the changes.
    first = layout.cells.yxyx[:per_canvas]
    grid = (len(first[:, 0].unique()), len(first[:, 1].unique()))
    maps = rows.double().reshape(layout.num_canvases, *grid, -1).permute(0, 3, 1, 2)
    upsampled = functional.interpolate(maps, layout.canvas_hw, mode="nearest")
    for i, label in enumerate(labels_of(labeler, layout.items)):
        pooled = window(upsampled, layout.items, i).mean((1, 2))
        torch.testing.assert_close(label, pooled / pooled.sum(), rtol=1e-6, atol=1e-7)


@given(posters())
def test_fixed_labels_equal_counting_pixels(placement):
    painted = class_map(placement)
    items = placement.layout.items
    counts = torch.stack(
        [
            torch.bincount(window(painted, items, i).reshape(-1), minlength=placement.num_classes)
            for i in range(len(items))
        ]
    )
    winners = counts == counts.max(1, keepdim=True).values
    expected = winners.double() / winners.sum(1, keepdim=True)
    assert torch.equal(counts, class_coverage(items, placement))
    if bool((expected.sum(0) == 0).any()):
        with pytest.raises(InputError, match="'poddl' gives no training image to"):
            Poddl(PoddlOptions(mode="fixed"), placement=placement)
    else:
        labeler = Poddl(PoddlOptions(mode="fixed"), placement=placement)
        assert torch.equal(labels_of(labeler, items), expected)


def painted_areas(layout: Layout) -> torch.Tensor:
    """(items, cells) float64: pixels of each item in each cell, painted cell by cell."""
    areas = torch.zeros(len(layout.items), len(layout.cells), dtype=torch.float64)
    for cell, (y0, x0, y1, x1) in enumerate(layout.cells.yxyx.tolist()):
        own = torch.zeros(layout.num_canvases, *layout.canvas_hw)
        own[int(layout.cells.canvas[cell]), y0:y1, x0:x1] = 1
        for item in range(len(layout.items)):
            areas[item, cell] = window(own, layout.items, item).sum()
    return areas


def with_random_rows(labeler: Poddl, seed: int) -> torch.Tensor:
    """Give a labeler rows from [0.1, 1.1); return them."""
    rows = torch.rand(labeler.rows.shape, generator=torch.Generator().manual_seed(seed)) + 0.1
    labeler.rows.data.copy_(rows)
    return rows.double()


@given(posters(), st.floats(0.1, 20), st.integers(0, 2**31))
def test_areas_to_a_power_equal_counting_pixels(placement, power, seed):
    labeler = Poddl(PoddlOptions(pooling="area", power=power), placement=placement)
    rows = with_random_rows(labeler, seed)
    mass = painted_areas(placement.layout) ** power @ rows
    found = labels_of(labeler, placement.layout.items)
    torch.testing.assert_close(found, mass / mass.sum(1, keepdim=True), rtol=1e-6, atol=1e-9)


def test_a_high_power_takes_the_largest_cell_alone_and_a_low_one_all_alike():
    placement = paper(*PAPERS["C10 1.0"])
    areas = painted_areas(placement.layout)
    high, low = (
        Poddl(PoddlOptions(pooling="area", power=power), placement=placement)
        for power in (100, 1e-6)
    )
    rows = with_random_rows(high, 0)
    low.rows.data.copy_(rows)
    clear = areas.topk(2, 1).values
    clear = clear[:, 0] > 1.5 * clear[:, 1]
    assert int(clear.sum()) > len(clear) // 3
    largest = rows[areas.argmax(1)]
    found = labels_of(high, placement.layout.items)
    expected = largest / largest.sum(1, keepdim=True)
    torch.testing.assert_close(found[clear], expected[clear], rtol=1e-6, atol=1e-9)
    touched = (areas > 0).double() @ rows
    found = labels_of(low, placement.layout.items)
    torch.testing.assert_close(found, touched / touched.sum(1, keepdim=True), rtol=1e-4, atol=0)


@given(posters(), st.floats(0.05, 10), st.integers(0, 2**31))
def test_labels_are_the_softmax_of_rows_pooled_by_area(placement, temperature, seed):
    labeler = Poddl(
        PoddlOptions(pooling="area", constraint="softmax", temperature=temperature),
        placement=placement,
    )
    rows = with_random_rows(labeler, seed) - 1
    labeler.rows.data.sub_(1)
    areas = painted_areas(placement.layout)
    pooled = areas @ rows / areas.sum(1, keepdim=True)
    powers = (pooled / temperature).exp()
    found = labels_of(labeler, placement.layout.items)
    torch.testing.assert_close(found, powers / powers.sum(1, keepdim=True), rtol=1e-4, atol=1e-9)


def test_gradients_of_softmax_labels_agree_with_finite_differences():
    placement = placed(4, (1, 4, 4), ipc=0.7)
    labeler = Poddl(
        PoddlOptions(pooling="area", power=2, constraint="softmax", temperature=0.5),
        placement=placement,
    ).double()
    items = placement.layout.items
    with_random_rows(labeler, 3)
    # The rows are those of the labeler, which the check moves in place.
    assert torch.autograd.gradcheck(lambda rows: labels_of(labeler, items), (labeler.rows,))


@pytest.mark.parametrize(("start", "temperature"), [(1, 0.1), (2, 0.1), (3, 0.2), (1, 0.5), (2, 1)])
def test_softmax_labels_of_one_cell_start_as_the_closed_form_says(start, temperature):
    placement = paper(*PAPERS["C10 0.9"])
    labeler = Poddl(
        PoddlOptions(pooling="nearest", constraint="softmax", start=start, temperature=temperature),
        placement=placement,
    )
    largest = labels_of(labeler, placement.layout.items).max(1).values
    own = math.exp(start / temperature)
    torch.testing.assert_close(
        largest, torch.full_like(largest, own / (own + 9)), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(("start", "temperature"), [(3, 0.1), (1, 0.03), (1000, 1e-3)])
def test_a_softmax_that_starts_too_sharp_to_learn_is_refused(start, temperature):
    options = {"constraint": "softmax", "start": start, "temperature": temperature}
    with pytest.raises(InputError, match="labels start so sharp that no update changes them") as e:
        Poddl(PoddlOptions(**options), placement=paper(*PAPERS["C10 0.9"]))
    assert "labeler.temperature" in e.value.next


def test_a_sharp_start_is_accepted_where_cells_share_patches_and_where_there_is_one_class():
    options = PoddlOptions(pooling="area", constraint="softmax", start=3)
    placement = paper(*PAPERS["C10 0.9"])
    labels = labels_of(Poddl(options, placement=placement), placement.layout.items)
    assert float(labels.detach().max(1).values.median()) < 1 - 1e-6
    alone = placed(1, (1, 4, 4), ipc=1)
    labels = labels_of(Poddl(options, placement=alone), alone.layout.items)
    assert torch.equal(labels, torch.ones_like(labels))


@pytest.mark.parametrize("power", [0.5, 1.5, 8])
def test_a_power_keeps_the_sum_of_areas_so_that_one_is_no_jump(power):
    items = Boxes.of(torch.tensor([0, 0]), torch.tensor([[0, 0, 3, 2], [0, 1, 3, 3]]))
    cells = Boxes.of(torch.tensor([0, 0]), torch.tensor([[0, 0, 2, 1], [0, 1, 3, 2]]))
    layout = Layout((3, 3), 1, items, cells, torch.tensor([0, 1]), (1, 2))
    weights = (
        Poddl(
            PoddlOptions(pooling="area", power=each),
            placement=Placement(layout, torch.tensor([[0, 1]])),
        )._table.rows
        for each in (1, power)
    )
    plain, powers = weights
    torch.testing.assert_close(powers.sum(1), plain.sum(1))
    assert plain.sum(1).tolist() == pytest.approx([5 / 6, 0.5])


def test_a_power_implies_pooling_by_area():
    placement = paper(*PAPERS["C10 0.9"])
    implied, said = (
        Poddl(PoddlOptions(pooling=pooling, power=3), placement=placement)._table.rows
        for pooling in (None, "area")
    )
    assert torch.equal(implied, said)


def test_updates_leave_the_rows_of_a_softmax_without_bound():
    placement = placed(4, (1, 4, 4), ipc=0.7)
    labeler = Poddl(PoddlOptions(constraint="softmax"), placement=placement)
    labeler.rows.data.fill_(-1)
    labeler.project()
    assert bool((labeler.rows == -1).all())


@given(
    posters(),
    st.sampled_from(["area", "nearest"]),
    st.sampled_from(["clip", "softmax"]),
    st.floats(0.01, 100),
    st.integers(0, 99),
)
def test_labels_are_a_distribution_after_any_update(placement, pooling, constraint, scale, seed):
    labeler = Poddl(PoddlOptions(pooling=pooling, constraint=constraint), placement=placement)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(labeler.rows.shape, generator=generator)
    clipped = torch.rand(len(noise), 1, generator=generator) < 0.5
    labeler.rows.data.add_(torch.where(clipped, -1e9, scale * noise))
    labeler.project()
    assert constraint == "softmax" or bool((labeler.rows >= 0).all())
    labels = labels_of(labeler, placement.layout.items)
    assert bool((labels >= 0).all())
    torch.testing.assert_close(labels.sum(1), torch.ones(len(labels), dtype=torch.float64))


def test_cells_of_many_canvases_in_any_order_and_number_are_pooled_by_area():
    """Independent truth: areas of all boxes in all cells, those of other canvases being zero."""
    generator = torch.Generator().manual_seed(0)
    boxes = [[0, 0, 2, 2], [0, 1, 2, 3], [1, 1, 3, 3]]
    cells = Boxes.of(
        torch.tensor([2, 0, 2, 1, 2]),
        torch.tensor([[0, 0, 3, 1], [0, 0, 3, 3], [0, 1, 3, 2], [0, 0, 2, 3], [0, 2, 3, 3]]),
    )
    items = Boxes.of(torch.tensor([1, 2, 0, 2]), torch.tensor([*boxes, boxes[0]]))
    layout = Layout((3, 3), 3, items, cells, torch.arange(5), (1, 5))
    labeler = Poddl(
        PoddlOptions(pooling="area"), placement=Placement(layout, torch.arange(5)[None])
    )
    assert labeler._table.rows.shape == (4, 3)  # not all cells, whose number grows with canvases
    rows = (torch.rand(5, 5, generator=generator) + 0.1).requires_grad_()
    labeler.rows.data.copy_(rows.detach())
    mass = overlap_area(items, cells).double() / 4 @ rows.double()
    expected = mass / mass.sum(1, keepdim=True)
    found = labels_of(labeler, items)
    torch.testing.assert_close(found, expected)
    weights = torch.rand(4, 5, generator=generator)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(labeler.rows.grad, rows.grad)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("constraint", ["clip", "softmax"])
def test_a_box_that_no_cell_touches_has_a_uniform_label(power, constraint):
    items = Boxes.of(torch.tensor([0, 0]), torch.tensor([[0, 0, 3, 1], [0, 2, 3, 3]]))
    layout = Layout((3, 3), 1, items, items[:1], torch.tensor([0]), (1, 2))
    labeler = Poddl(
        PoddlOptions(pooling="area", power=power, constraint=constraint),
        placement=Placement(layout, torch.tensor([[0, 1]])),
    )
    assert labels_of(labeler, items)[1].tolist() == [0.5, 0.5]


def test_cells_clipped_to_nothing_give_uniform_labels_that_can_learn():
    placement = placed(4, (1, 4, 4), ipc=1)
    labeler = Poddl(PoddlOptions(pooling="area"), placement=placement)
    labeler.rows.data.fill_(-1)
    labeler.project()
    labels = labels_of(labeler, placement.layout.items)
    torch.testing.assert_close(labels, torch.full_like(labels, 0.25))
    labels[0, 0].backward()
    assert bool(labeler.rows.grad.isfinite().all())


@given(posters(), st.sampled_from(["learned", "nearest", "fixed"]))
def test_a_box_that_is_no_item_is_labelled_by_its_place(placement, kind):
    options = {
        "learned": PoddlOptions(),
        "nearest": PoddlOptions(pooling="nearest"),
        "fixed": PoddlOptions(mode="fixed"),
    }[kind]
    try:
        labeler = Poddl(options, placement=placement)
    except InputError:
        assume(False)
    items = placement.layout.items
    nameless = Boxes(items.canvas, items.yxyx, torch.full_like(items.item, -1))
    assert torch.equal(labels_of(labeler, nameless), labels_of(labeler, items))


@pytest.mark.parametrize("mode", ["learned", "fixed"])
def test_images_have_one_hot_labels(mode):
    layout = Images(ImagesOptions(), spec=spec(6), ipc=2).layout
    placement = Placement(layout, torch.randperm(6).reshape(2, 3))
    labels = labels_of(Poddl(PoddlOptions(mode=mode), placement=placement), layout.items)
    expected = functional.one_hot(placement.cell_class, 6).double()
    torch.testing.assert_close(labels, expected, rtol=0, atol=1e-7)


def test_learned_labels_store_one_row_per_cell_and_fixed_ones_nothing():
    placement = paper(*PAPERS["C10 0.9"])
    learned = Poddl(PoddlOptions(), placement=placement)
    assert learned.rows.shape == (10, 10)
    assert sum(tensor.numel() for tensor in learned.state_dict().values()) == 100
    assert Poddl(PoddlOptions(mode="fixed"), placement=placement).state_dict() == {}


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("C10 1.0", 0.614),
        ("C10 0.9", 0.570),
        ("C100 0.9", 0.560),
        ("C100 0.4", 0.366),
        ("CUB 0.9", 0.556),
        ("Tiny 0.9", 0.553),
    ],
)
def test_published_softness_of_learned_labels_at_the_start(name, share):
    placement = paper(*PAPERS[name])
    labels = labels_of(
        Poddl(PoddlOptions(pooling="area"), placement=placement), placement.layout.items
    )
    assert round(float(labels.detach().max(1).values.mean()), 3) == share


def test_published_labels_touch_as_many_classes_as_counted():
    tenth = paper(*PAPERS["C10 1.0"])
    labels = labels_of(
        Poddl(PoddlOptions(pooling="area"), placement=tenth), tenth.layout.items
    ).detach()
    assert int((labels.max(1).values > 1 - 1e-6).sum()) == 4
    assert int((labels > 1e-6).sum(1).max()) == 4
    hundredth = paper(*PAPERS["C100 0.4"])
    labels = labels_of(
        Poddl(PoddlOptions(pooling="area"), placement=hundredth), hundredth.layout.items
    )
    classes = (labels.detach() > 1e-6).sum(1).double()
    assert float(classes.mean()) == pytest.approx(6.0, abs=0.05)
    assert int(classes.max()) == 9


@pytest.mark.parametrize(
    ("name", "differing", "ties_areas", "ties_cells"),
    [
        ("C10 1.0", 0, 0, 0),
        ("C10 0.9", 0, 0, 0),
        ("C10 0.5", 0, 0, 0),
        ("C10 0.3", 52, 12, 36),
        ("C100 0.9", 39, 0, 39),
        ("C100 0.4", 204, 0, 39),
    ],
)
def test_published_counts_of_fixed_labels(name, differing, ties_areas, ties_cells):
    placement = paper(*PAPERS[name])
    items = placement.layout.items
    cells, areas = (
        labels_of(Poddl(PoddlOptions(mode="fixed", regions=regions), placement=placement), items)
        for regions in ("cells", "areas")
    )
    assert int((cells != areas).any(1).sum()) == differing
    assert int((areas.max(1).values < 1).sum()) == ties_areas
    assert int((cells.max(1).values < 1).sum()) == ties_cells


@pytest.mark.parametrize("regions", ["cells", "areas"])
@pytest.mark.parametrize("name", ["C10 1.0", "C10 0.9", "C10 0.5"])
def test_border_classes_get_half_as_many_patches(name, regions):
    placement = paper(*PAPERS[name])
    labeler = Poddl(PoddlOptions(mode="fixed", regions=regions), placement=placement)
    mass = labels_of(labeler, placement.layout.items).sum(0)
    assert mass[placement.class_grid].tolist() == [[6, 12, 12, 12, 6]] * 2


def test_softmax_of_pixel_counts_is_the_majority():
    """The published code's way to fixed labels, on its overlapping class areas."""
    placement = paper(*PAPERS["C10 0.3"])
    grid = placement.class_grid
    starts = [[0, 3], [0, 14, 28, 41, 55]]
    items = placement.layout.items
    counts = torch.zeros(len(items), 10, dtype=torch.float64)
    for r, top in enumerate(starts[0]):
        for c, left in enumerate(starts[1]):
            for i, (y0, x0, y1, x1) in enumerate(items.yxyx.tolist()):
                height = max(0, min(y1, top + 32) - max(y0, top))
                width = max(0, min(x1, left + 32) - max(x0, left))
                counts[i, grid[r, c]] = height * width
    labeler = Poddl(PoddlOptions(mode="fixed", regions="areas"), placement=placement)
    torch.testing.assert_close(labels_of(labeler, items), counts.softmax(1), rtol=0, atol=1e-6)


def test_twenty_four_patches_of_fig_6():
    placement = paper(10, 32, "64x160", "3x8")
    labels = labels_of(
        Poddl(PoddlOptions(mode="fixed"), placement=placement), placement.layout.items
    )
    assert int((labels.max(1).values < 1).sum()) == 8
    mass = labels.sum(0)[placement.class_grid]
    assert mass.tolist() == [[1.5, 3, 3, 3, 1.5]] * 2


@pytest.mark.parametrize(
    ("name", "grid", "without"),
    [
        ("C10 0.9", "1x6", 5),
        ("C10 1.0", "2x5", 0),
        ("C100 0.9", "10x9", 10),
        ("C100 0.4", "10x10", 0),
        ("CUB 0.9", "9x21", 20),
        ("CUB 1.0", "10x20", 0),
        ("Tiny 0.9", "10x19", 10),
        ("Tiny 1.0", "10x20", 0),
    ],
)
def test_published_label_arrays_leave_as_many_classes_out(name, grid, without):
    placement = paper(*PAPERS[name])
    labeler = Poddl(PoddlOptions(grid=grid, pooling="nearest"), placement=placement)
    rows, cols = map(int, grid.split("x"))
    assert len(labeler.rows) == rows * cols
    assert int((labeler.rows.detach().sum(0) == 0).sum()) == without
    # The window of the published code is one cell: as many labels as cells, all of them used.
    weights = labeler._table.rows
    assert weights.unique().tolist() == [0, 1]
    assert bool(weights.any(0).all())
    assert weights.sum(1).unique().tolist() == [1]


@given(
    count=st.integers(1, 6),
    patch=st.integers(1, 8),
    room=st.integers(0, 12),
    seen=st.integers(1, 9),
)
def test_nearest_cells_are_those_of_the_published_window(count, patch, room, seen):
    """Window max(1, floor(patch * count / side)) at round(linspace(0, count - window, patches))."""
    side = patch + room
    assume(count <= side)
    starts = [round(i * room / max(seen - 1, 1)) for i in range(seen)]
    boxes = Boxes.of(
        torch.zeros(seen), torch.tensor([[0, start, 1, start + patch] for start in starts])
    )
    layout = Layout((1, side), 1, boxes, boxes[:1], torch.tensor([0]), (1, 1))
    labeler = Poddl(
        PoddlOptions(pooling="nearest", grid=(1, count)),
        placement=Placement(layout, torch.tensor([[0]])),
    )
    length = max(1, patch * count // side)
    for start, weights in zip(starts, labeler._table.rows, strict=True):
        ideal = start * (count - length) / max(room, 1)
        chosen = weights.nonzero().flatten().tolist()
        assert chosen == list(range(chosen[0], chosen[0] + length))
        assert abs(chosen[0] - ideal) <= 0.5
        assert weights[chosen].tolist() == [1 / length] * length


def test_nearest_labels_of_a_cyclic_poster_go_around():
    placement = placed(4, (1, 4, 4), size="4x16", classes="1x4", patches="1x4", cyclic=True)
    labeler = Poddl(PoddlOptions(pooling="nearest"), placement=placement)
    boxes = Boxes(
        torch.zeros(2, dtype=torch.int64),
        torch.tensor([[0, 15, 4, 19], [0, 13, 4, 17]]),
        torch.tensor([-1, -1]),
    )
    found = labels_of(labeler, boxes).argmax(1).tolist()
    assert found == placement.class_grid[0, [0, 3]].tolist()


@pytest.mark.parametrize("name", ["C10 1.0", "C10 0.9", "C100 0.9", "C100 0.4"])
def test_labels_start_one_hot_where_every_cell_is_nearest_to_a_patch(name):
    placement = paper(*PAPERS[name])
    items = placement.layout.items
    labels = labels_of(Poddl(PoddlOptions(), placement=placement), items)
    assert torch.equal(labels.max(1).values, torch.ones(len(items), dtype=torch.float64))
    assert bool(labels.any(0).all())  # no class is without an image


def test_labels_are_pooled_by_area_where_some_cell_is_nearest_to_no_patch():
    placement = placed(4, (1, 4, 4), size="8x8", classes="2x2", patches="1x2")
    items = placement.layout.items
    default, area, nearest = (
        labels_of(Poddl(PoddlOptions(pooling=pooling), placement=placement), items)
        for pooling in (None, "area", "nearest")
    )
    assert not bool(nearest.any(0).all())
    assert torch.equal(default, area)


def test_fixed_labels_that_lose_a_class_say_what_to_do():
    placement = placed(4, (1, 4, 4), size="8x8", patches="1x2")
    with pytest.raises(InputError) as caught:
        Poddl(PoddlOptions(mode="fixed"), placement=placement)
    assert caught.value.next == "use more patches, or -o labeler.mode=learned."


def test_a_label_grid_finer_than_pixels_is_refused():
    with pytest.raises(InputError, match="label grid of 9x2 does not fit on 8x8 pixels"):
        Poddl(PoddlOptions(grid="9x2"), placement=placed(4, (1, 4, 4), size="8x8"))


def test_cells_that_are_no_grid_have_no_nearest_cell():
    cells = Boxes.of(torch.zeros(2), torch.tensor([[0, 0, 2, 3], [0, 1, 2, 4]]))
    layout = Layout((2, 4), 1, cells, cells, torch.arange(2), (1, 2))
    placement = Placement(layout, torch.tensor([[0, 1]]))
    with pytest.raises(InputError, match="regular grid"):
        Poddl(PoddlOptions(pooling="nearest"), placement=placement)
    labels = labels_of(Poddl(PoddlOptions(), placement=placement), cells)
    # Each box has 6 pixels, 4 of them in the other cell too.
    torch.testing.assert_close(
        labels.detach(), torch.tensor([[0.6, 0.4], [0.4, 0.6]]).double(), rtol=0, atol=1e-6
    )
