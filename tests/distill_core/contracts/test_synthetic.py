from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.builtin.labelers.onehot import Onehot
from distill_core.builtin.labelers.soft import Soft
from distill_core.builtin.representations.images import Images, ImagesOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Boxes, Layout, Placement
from distill_core.contracts.synthetic import SyntheticDataset, check_budget
from podd_plugin.poddl import Poddl, PoddlOptions
from podd_plugin.poster import Poster, PosterOptions
from registry import InputError
from registry.options import Options

SPEC = DataSpec("made", tuple("abcdef"), (2, 4, 4), ())


def made(representation, labeler, *, spec=SPEC) -> SyntheticDataset:
    layout = representation.layout
    grid = torch.arange(spec.num_classes).reshape(layout.grid_shape)
    placement = Placement(layout, grid)
    return SyntheticDataset(representation, labeler(placement), placement=placement, spec=spec)


def images(ipc=1, labeler=lambda placement: Soft(Options(), placement=placement)):
    return made(Images(ImagesOptions(), spec=SPEC, ipc=ipc), labeler)


def poster(labeler=lambda placement: Poddl(PoddlOptions(), placement=placement), **options):
    return made(Poster(PosterOptions(**options), spec=SPEC, ipc=None), labeler)


def test_at_gives_images_and_labels_of_the_same_boxes():
    data = images(ipc=2)
    with torch.no_grad():
        data.representation.pixels.copy_(
            torch.arange(12.0)[:, None, None, None].expand(12, 2, 4, 4)
        )
    boxes = data.placement.layout.items[torch.tensor([7, 2])]
    batch = data.at(boxes)
    assert batch.images[:, 0, 0, 0].tolist() == [7, 2]
    assert batch.labels.argmax(1).tolist() == [3, 1]
    assert len(data.all().images) == len(data) == 12


@given(st.integers(1, 15), st.integers(0, 2**31), st.booleans())
def test_draws_are_without_replacement(size, seed, balanced):
    data = images(ipc=2)
    boxes = data.draw(size, generator=torch.Generator().manual_seed(seed), balanced=balanced)
    items = boxes.item.tolist()
    assert len(items) == len(set(items)) == min(size, 12)
    if size >= 12:
        assert items == list(range(12))
    again = data.draw(size, generator=torch.Generator().manual_seed(seed), balanced=balanced)
    assert again.item.tolist() == items


def test_batches_are_shuffled_passes_without_end():
    data = images(ipc=2)
    batches = data.batches(5, generator=torch.Generator().manual_seed(0))
    passes = [[next(batches).item.tolist() for _ in range(3)] for _ in range(3)]
    for one in passes:
        assert list(map(len, one)) == [5, 5, 2]
        assert sorted(item for batch in one for item in batch) == list(range(12))
    assert passes[0] != passes[1]


def test_balanced_draws_undo_that_a_class_has_few_items():
    # Class 0 has one item, class 1 three: every class weighs the same in all.
    cells = Boxes.of(torch.zeros(2), torch.tensor([[0, 0, 4, 4], [0, 4, 4, 8]]))
    boxes = [[0, 0, 4, 4], [0, 4, 4, 8], [0, 4, 4, 8], [0, 4, 4, 8]]
    representation = Images(ImagesOptions(), spec=SPEC)
    representation.pixels = torch.nn.Parameter(torch.zeros(1, 2, 4, 8))
    items = Boxes.of(torch.zeros(4), torch.tensor(boxes))
    representation.layout = Layout((4, 8), 1, items, cells, torch.arange(2), (1, 2))
    spec = DataSpec("made", tuple("ab"), (2, 4, 4), ())
    data = made(representation, lambda p: Onehot(Options(), placement=p), spec=spec)
    torch.testing.assert_close(data.balance(), torch.tensor([1, 1 / 3, 1 / 3, 1 / 3]))
    generator = torch.Generator().manual_seed(0)
    drawn = [int(data.draw(1, generator=generator, balanced=True).item) for _ in range(400)]
    assert 160 < drawn.count(0) < 240


def test_groups_are_data_and_labels_and_fixed_labels_have_none():
    assert {name: len(group) for name, group in images().groups().items()} == {
        "data": 1,
        "labels": 1,
    }
    fixed = images(labeler=lambda placement: Onehot(Options(), placement=placement))
    assert list(fixed.groups()) == ["data"]


def test_project_clips_the_labels():
    data = images()
    data.labeler.rows.data.fill_(-1)
    data.project()
    assert float(data.labeler.rows.detach().min()) == 0
    torch.testing.assert_close(data.all().labels.sum(1), torch.ones(6))


@given(st.integers(1, 3))
def test_budget_of_images_counts_what_is_stored(ipc):
    budget = images(ipc).budget()
    assert budget.pixels == 6 * ipc * 16
    assert budget.ipc == ipc
    assert budget.label_numbers == 6 * ipc * 6
    assert budget.label_rows == ipc
    fixed = images(ipc, lambda placement: Onehot(Options(), placement=placement)).budget()
    assert fixed.label_numbers == 0


@given(st.integers(4, 20), st.integers(4, 20))
def test_budget_of_a_poster_counts_what_is_stored(height, width):
    budget = poster(size=(height, width), patches=(3, 3)).budget()
    cells_per_class = max(1, round((height * width / 96) ** 0.5)) ** 2
    assert budget.label_numbers == 36 * cells_per_class
    assert budget.pixels == height * width
    assert budget.ipc == pytest.approx(height * width / (6 * 16))
    assert budget.as_dict()["pixels"] == budget.pixels
    assert f"{height * width} pixels" in str(budget)


def test_more_than_the_budget_is_refused():
    budget = poster(size=(8, 12)).budget()
    check_budget(budget, None)
    check_budget(budget, 1.0)
    with pytest.raises(InputError, match=r"stores 1\.0000 images per class") as caught:
        check_budget(budget, 0.99)
    assert "raise --ipc to 1, or" in caught.value.next
