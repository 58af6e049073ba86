from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.contracts.geometry import (
    Boxes,
    Layout,
    Placement,
    class_coverage,
    grid_cells,
    overlap_area,
)
from distill_core.layout.labels import (
    LEAST_MASS,
    ItemTable,
    check_every_class,
    check_touched,
    item_coverage,
    majority_labels,
    normalise_rows,
    rows_by_coverage,
)
from registry import InputError

COUNTS = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(0, 3), min_size=width, max_size=width).filter(any),
        min_size=1,
        max_size=4,
    )
)


@given(COUNTS)
def test_majority_shares_equally_among_the_largest(counts):
    labels = majority_labels(torch.tensor(counts))
    for row, found in zip(counts, labels.tolist(), strict=True):
        winners = row.count(max(row))
        assert found == [1 / winners if count == max(row) else 0 for count in row]


@given(COUNTS, st.floats(1e-3, 10))
def test_normalised_rows_are_the_shares_of_the_mass(counts, scale):
    mass = torch.tensor(counts, dtype=torch.float64) * scale
    labels = normalise_rows(mass)
    torch.testing.assert_close(labels.sum(1), torch.ones(len(counts), dtype=torch.float64))
    torch.testing.assert_close(labels, mass / mass.sum(1, keepdim=True))


def test_a_row_without_mass_is_uniform_and_has_a_finite_gradient():
    mass = torch.zeros(1, 4, requires_grad=True)
    labels = normalise_rows(mass)
    assert labels.tolist() == [[0.25] * 4]
    labels[0, 0].backward()
    assert bool(mass.grad.isfinite().all())
    assert float(mass.grad.abs().max()) <= 1 / LEAST_MASS
    # More mass for a class means more of that class: a clipped row can recover.
    assert float(mass.grad[0, 0]) > 0 > float(mass.grad[0, 1])


@given(COUNTS, st.floats(0, LEAST_MASS))
def test_a_row_of_little_mass_has_its_shares_and_the_rest_for_all(counts, scale):
    row = torch.tensor(counts, dtype=torch.float64)
    mass = scale * row / row.sum(1, keepdim=True)
    labels = normalise_rows(mass)
    rest = (LEAST_MASS - scale) / row.shape[1]
    torch.testing.assert_close(labels, (mass + rest) / LEAST_MASS)


def test_item_table_computes_only_what_is_no_item():
    calls = []

    def compute(boxes: Boxes) -> torch.Tensor:
        calls.append(len(boxes))
        return boxes.yxyx[:, :1]

    items = Boxes.of(torch.zeros(3), torch.tensor([[0, 0, 1, 1], [1, 0, 2, 1], [2, 0, 3, 1]]))
    table = ItemTable(compute, items)
    assert table.at(items[torch.tensor([2, 0])]).tolist() == [[2], [0]]
    assert calls == [3]
    drawn = Boxes(torch.zeros(2), torch.tensor([[5, 0, 6, 1], [0, 0, 1, 1]]), torch.tensor([-1, 0]))
    assert table.at(drawn).tolist() == [[5], [0]]
    assert calls == [3, 2]


def test_an_item_that_touches_no_class_is_refused():
    items = Boxes.of(torch.zeros(2), torch.tensor([[0, 0, 1, 1], [1, 1, 2, 2]]))
    layout = Layout((2, 2), 1, items, items[:1], torch.tensor([0]), (1, 1))
    with pytest.raises(InputError, match="'x': 1 of 2 training images touch no class"):
        item_coverage(Placement(layout, torch.tensor([[0]])), labeler="x")
    with pytest.raises(InputError, match="'x': 1 of 2 training images touch no class"):
        check_touched(Placement(layout, torch.tensor([[0]])), labeler="x")


@pytest.mark.parametrize("numbers", [1, 7, 10**6])
def test_coverage_by_parts_is_the_coverage(numbers, monkeypatch):
    cells = grid_cells((9, 9), (3, 4))
    corners = torch.randint(0, 6, (23, 2), generator=torch.Generator().manual_seed(0))
    items = Boxes.of(torch.zeros(23), torch.cat([corners, corners + 3], 1))
    cell = Boxes.of(torch.zeros(12), cells)
    layout = Layout((9, 9), 1, items, cell, torch.arange(12), (3, 4))
    placement = Placement(layout, torch.randperm(12).view(3, 4))
    monkeypatch.setattr("distill_core.contracts.geometry.MOST_PAIRS", numbers)
    monkeypatch.setattr("distill_core.layout.labels.MOST_COVERAGE", numbers)
    expected = torch.zeros(23, 12, dtype=torch.int64)
    for k, class_ in enumerate(placement.cell_class.tolist()):
        expected[:, class_] += overlap_area(items, cell[k : k + 1])[:, 0]
    assert torch.equal(class_coverage(items, placement), expected)
    seen = []
    rows = rows_by_coverage(items, placement, lambda part: seen.append(len(part)) or 2 * part)
    assert torch.equal(rows, 2 * expected)
    assert max(seen) == min(23, max(1, numbers // 12))
    assert rows_by_coverage(items[:0], placement, lambda part: part).shape == (0, 12)


def test_a_class_without_an_item_is_named():
    labels = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]])
    check_every_class(labels[:, :2], labeler="x", next="more.")
    with pytest.raises(InputError) as caught:
        check_every_class(labels, labeler="x", next="more.")
    assert caught.value.what == (
        "labeler 'x' gives no training image to 1 of 3 classes (number 2)."
    )
    assert caught.value.next == "more."
