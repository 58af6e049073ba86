"""The stand-ins on which components are checked."""

from __future__ import annotations

import torch

from distill_core.testing.small import image_layout, poster_layout, small_data


def test_small_data_are_the_same_in_every_call_and_can_be_learned() -> None:
    one, other = small_data(5), small_data(5)
    assert torch.equal(one.train.images, other.train.images)
    assert one.fingerprint == other.fingerprint
    means = torch.stack([one.train.images[one.train.labels == k].mean(0) for k in range(5)])
    distances = torch.cdist(one.test.images.flatten(1), means.flatten(1))
    assert (distances.argmin(1) == one.test.labels).float().mean() > 0.9


def test_small_layouts_hold_together() -> None:
    assert len(image_layout(6, ipc=2).items) == 12
    items = poster_layout(wraps=True).items.yxyx
    height, width = poster_layout(wraps=True).canvas_hw
    assert (items[:, 2] > height).any()
    assert (items[:, 3] > width).any()
