from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.builtin.labelers.soft import Soft
from distill_core.builtin.representations.images import Images, ImagesOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Boxes, Layout, Placement
from registry import InputError
from registry.options import Options


def on_images(num_classes: int, ipc: int) -> tuple[Soft, Boxes]:
    spec = DataSpec("made", tuple(map(str, range(num_classes))), (1, 2, 2), ())
    layout = Images(ImagesOptions(), spec=spec, ipc=ipc).layout
    grid = torch.arange(num_classes).flip(0).reshape(layout.grid_shape)
    return Soft(Options(), placement=Placement(layout, grid)), layout.items


def labels_of(labeler: Soft, items: Boxes) -> torch.Tensor:
    return labeler.labels(items, torch.zeros(len(items), 1, 2, 2, dtype=torch.float64))


def test_labels_of_images_start_one_hot():
    labeler, items = on_images(4, ipc=2)
    labels = labels_of(labeler, items)
    assert labels.argmax(1).tolist() == [3, 3, 2, 2, 1, 1, 0, 0]
    torch.testing.assert_close(labels, labels.round(), rtol=0, atol=1e-7)
    assert labeler.rows.shape == (8, 4)


def test_an_item_between_two_classes_starts_half_and_half():
    cells = Boxes.of(torch.zeros(2), torch.tensor([[0, 0, 2, 2], [0, 2, 2, 4]]))
    items = Boxes.of(torch.zeros(2), torch.tensor([[0, 1, 2, 3], [0, 2, 2, 4]]))
    layout = Layout((2, 4), 1, items, cells, torch.arange(2), (1, 2))
    labeler = Soft(Options(), placement=Placement(layout, torch.tensor([[1, 0]])))
    torch.testing.assert_close(labels_of(labeler, items)[0].tolist(), [0.5, 0.5])


@given(st.integers(1, 5), st.integers(1, 2), st.floats(0.1, 50), st.integers(0, 2**31))
def test_labels_are_a_distribution_after_any_update(num_classes, ipc, scale, seed):
    labeler, items = on_images(num_classes, ipc)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        labeler.rows -= scale * torch.randn(labeler.rows.shape, generator=generator)
        labeler.project()
    labels = labels_of(labeler, items)
    assert bool((labels >= 0).all())
    torch.testing.assert_close(labels.sum(1), torch.ones(len(items), dtype=torch.float64))


def test_each_row_learns_from_its_own_item():
    labeler, items = on_images(3, ipc=1)
    labels_of(labeler, items[torch.tensor([2])])[0, 0].backward()
    assert labeler.rows.grad.abs().sum(1).bool().tolist() == [False, False, True]


def test_boxes_that_are_no_items_are_refused():
    labeler, _ = on_images(3, ipc=1)
    drawn = Boxes(torch.tensor([0]), torch.tensor([[0, 0, 2, 2]]), torch.tensor([-1]))
    with pytest.raises(InputError, match="draws boxes that are not training images"):
        labels_of(labeler, drawn)
