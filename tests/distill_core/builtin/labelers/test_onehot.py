from __future__ import annotations

import pytest
import torch

from distill_core.builtin.labelers.onehot import Onehot
from distill_core.builtin.representations.images import Images, ImagesOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Boxes, Layout, Placement
from registry import InputError
from registry.options import Options


def striped(*boxes: list[int]) -> Placement:
    """A canvas of 2x6 with the classes 1 | 0 | 2, two columns each."""
    cells = Boxes.of(torch.zeros(3), torch.tensor([[0, 0, 2, 2], [0, 2, 2, 4], [0, 4, 2, 6]]))
    items = Boxes.of(torch.zeros(len(boxes)), torch.tensor(boxes))
    layout = Layout((2, 6), 1, items, cells, torch.arange(3), (1, 3))
    return Placement(layout, torch.tensor([[1, 0, 2]]))


def test_images_have_the_class_of_their_slot():
    spec = DataSpec("made", tuple("abcdef"), (1, 4, 4), ())
    images = Images(ImagesOptions(), spec=spec, ipc=2)
    placement = Placement(images.layout, torch.tensor([[5, 0, 3], [1, 4, 2]]))
    labeler = Onehot(Options(), placement=placement)
    labels = labeler.labels(images.layout.items, torch.zeros(12, 1, 4, 4, dtype=torch.float64))
    assert labels.dtype == torch.float64
    assert labels.argmax(1).tolist() == [5, 5, 0, 0, 3, 3, 1, 1, 4, 4, 2, 2]
    assert labels.sum(1).tolist() == [1.0] * 12
    assert list(labeler.parameters()) == []


def test_largest_cover_wins_and_ties_go_to_the_lower_class_number():
    # Covers 1,0 | 1,0 tied | 0,2 tied | 2: the ties go to class 0.
    placement = striped([0, 0, 2, 3], [0, 1, 2, 3], [0, 3, 2, 5], [0, 4, 2, 6])
    labeler = Onehot(Options(), placement=placement)
    labels = labeler.labels(placement.layout.items, torch.zeros(4, 1, 2, 2))
    assert labels.tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]


def test_a_box_that_is_no_item_gets_a_label_too():
    placement = striped([0, 0, 2, 2], [0, 2, 2, 4], [0, 4, 2, 6])
    drawn = Boxes(torch.tensor([0]), torch.tensor([[0, 3, 2, 6]]), torch.tensor([-1]))
    labels = Onehot(Options(), placement=placement).labels(drawn, torch.zeros(1, 1, 2, 3))
    assert labels.tolist() == [[0, 0, 1]]


def test_a_class_without_a_training_image_is_refused():
    with pytest.raises(InputError, match=r"'onehot' gives no .* 1 of 3 classes \(number 2\)"):
        Onehot(Options(), placement=striped([0, 0, 2, 2], [0, 2, 2, 4]))
