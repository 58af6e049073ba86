from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_core.builtin.datasets import shapes as module
from distill_core.builtin.datasets.shapes import Shapes, ShapesOptions, class_names
from distill_core.contracts.data import RawData
from distill_core.data.prepare import check_raw


def _load(**options: Any) -> RawData:
    raw = Shapes(ShapesOptions(**options)).load()
    check_raw(raw)
    return raw


@settings(max_examples=15)
@given(st.integers(2, 60), st.integers(8, 64), st.integers(1, 3), st.integers(1, 3))
def test_any_number_of_classes_and_any_size(k: int, size: int, train: int, test: int) -> None:
    raw = _load(classes=k, size=size, train_per_class=train, test_per_class=test)
    assert raw.spec.num_classes == k
    assert raw.train_images.shape == (k * train, 3, size, size)
    assert raw.train_labels.bincount().tolist() == [train] * k
    assert raw.test_labels.bincount().tolist() == [test] * k


@given(st.integers(2, 3000))
def test_no_two_classes_are_alike(k: int) -> None:
    assert len(set(class_names(k))) == k
    assert len({tuple(traits) for traits in module._traits(k).tolist()}) == k


def test_names_say_what_is_to_be_seen() -> None:
    assert class_names(3) == ("red_plain_disc", "amber_banded_square", "lime_striped_triangle")
    assert class_names(200)[1] == "hue32.7_banded_square"
    raw = _load(classes=4, train_per_class=50)
    brightest = [
        int(raw.train_images[raw.train_labels == label].float().mean((0, 2, 3)).argmax())
        for label in (0, 3)
    ]
    assert raw.spec.class_names[3] == "green_checked_ring"
    assert brightest == [0, 1]


def test_equal_settings_give_equal_images() -> None:
    torch.manual_seed(1)
    first = _load(classes=5, train_per_class=4)
    torch.manual_seed(2)
    second = _load(classes=5, train_per_class=4)
    assert torch.equal(first.train_images, second.train_images)
    assert torch.equal(first.test_images, second.test_images)
    other = _load(classes=5, train_per_class=4, seed=1)
    assert not torch.equal(first.train_images, other.train_images)
    more = _load(classes=5, train_per_class=9)
    assert torch.equal(first.test_images, more.test_images)
    assert not torch.equal(first.test_images[:5], first.train_images[:5])


def test_shapes_and_patterns_are_mirror_images_of_themselves() -> None:
    steps = torch.linspace(-1.3, 1.3, 41, dtype=torch.float64)
    y, x = steps[:, None].expand(1, 1, -1, -1), steps.expand(1, 1, 1, -1)
    for formula, names in ((module._distance, module.SHAPES), (module._pattern, module.PATTERNS)):
        for each in range(len(names)):
            drawn = formula(each, y, x)
            torch.testing.assert_close(drawn, drawn.flip(3))


def test_shapes_lie_inside_their_circle_and_the_picture() -> None:
    """The border of every shape is within 1.3 radii, so that the noise-free edge is ground."""
    steps = torch.linspace(-2, 2, 81)
    y, x = steps[:, None].expand(1, 1, -1, -1), steps.expand(1, 1, 1, -1)
    outside = (x**2 + y**2).sqrt() > 1.3
    for shape in range(len(module.SHAPES)):
        distance = module._distance(shape, y, x)
        assert (distance[outside] > 0).all()
        assert distance.min() < -0.1


def test_pictures_are_those_of_earlier_versions() -> None:
    """Of the first chunk, and of the second, which is not whole."""
    images = _load(classes=23, size=16, train_per_class=50).train_images
    assert len(images) > module.CHUNK
    found = images[[0, 1, 1023, 1024, 1149]].flatten(1).double().mean(1)
    assert found.tolist() == pytest.approx([64.25, 80.87, 57.93, 80.88, 107.08], abs=0.1)
    assert images[[0, 1023, 1024, 1149], 1, 8, 8].tolist() == [0, 84, 8, 78]


def test_a_picture_does_not_depend_on_those_beside_it() -> None:
    n = 60
    traits, noise = module._traits(n), torch.empty(n, 3, 9, 9)
    drawn = module._drawn(traits, 7, noise, torch.Generator().manual_seed(0))
    both = torch.zeros(2, n, 3, 9, 9, dtype=torch.uint8)
    module._paint(drawn, both[0])
    for k in range(n):
        alone = module.Drawn(*(each[k : k + 1] for each in drawn))
        module._paint(alone, both[1, k : k + 1])
    assert torch.equal(*both)


def test_the_classes_can_be_learned() -> None:
    """Nearest neighbour on pixels, far above the 10 % of chance, below perfection."""
    raw = _load(train_per_class=50, test_per_class=20, size=16)
    train, test = raw.train_images.flatten(1).float(), raw.test_images.flatten(1).float()
    guess = raw.train_labels[torch.cdist(test, train).argmin(1)]
    accuracy = (guess == raw.test_labels).float().mean()
    assert 0.6 < accuracy < 1
