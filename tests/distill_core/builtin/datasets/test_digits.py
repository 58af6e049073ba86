from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from distill_core.builtin.datasets.digits import Digits, DigitsOptions
from distill_core.contracts.data import RawData
from distill_core.data.prepare import check_raw


def _load() -> RawData:
    return Digits(DigitsOptions()).load()


def test_the_digits_are_those_of_scikit_learn() -> None:
    raw = _load()
    check_raw(raw)
    assert raw.spec.name == "digits"
    assert raw.spec.class_names[3] == "three"
    assert raw.spec.image_shape == (1, 8, 8)
    images = torch.cat([raw.train_images, raw.test_images]).flatten(1).numpy()
    labels = torch.cat([raw.train_labels, raw.test_labels]).numpy()
    bunch = load_digits()
    found = sorted(map(tuple, np.column_stack([np.rint(images / 255 * 16), labels]).tolist()))
    expected = sorted(map(tuple, np.column_stack([bunch.data, bunch.target]).tolist()))
    assert found == expected
    assert images.min() == 0
    assert images.max() == 255


def test_a_fifth_of_every_class_is_for_testing() -> None:
    raw = _load()
    train, test = raw.train_labels.bincount(), raw.test_labels.bincount()
    assert (train + test).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert ((test - 0.2 * (train + test)).abs() <= 0.5).all()


def test_the_split_never_changes() -> None:
    torch.manual_seed(1)
    first = _load()
    torch.manual_seed(2)
    second = _load()
    assert torch.equal(first.test_images, second.test_images)
    assert torch.equal(first.train_labels, second.train_labels)


def test_no_mirrored_digits() -> None:
    assert "flip" not in _load().spec.augmentations
