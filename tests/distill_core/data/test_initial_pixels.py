from __future__ import annotations

from math import prod

import pytest
import torch
from torch import nn

from distill_core.data.initial_pixels import draw_real, fit_images, starting_noise


@pytest.mark.parametrize(("side", "std"), [(32, 0.0180), (64, 0.0090)])
def test_scale_of_the_noise(side, std):
    shape = (3, side, side)
    noise = starting_noise((8, *shape), shape, generator=torch.Generator().manual_seed(0))
    assert float(noise.std()) == pytest.approx(std, rel=0.02)
    assert round(1 / prod(shape) ** 0.5, 4) == std


def test_real_images_are_of_the_class_and_none_twice_before_all_are_used(make_real):
    real = make_real(3, (1, 4, 4), per_class=4)
    classes = torch.tensor([2, 0, 2, 2, 1, 2, 2])
    drawn = draw_real(real, classes, generator=torch.Generator().manual_seed(1))
    members = {label: list(real.train.images[real.train.labels == label]) for label in range(3)}
    places = {label: (classes == label).nonzero().flatten() for label in range(3)}
    for label, where in places.items():
        found = [
            next(i for i, image in enumerate(members[label]) if torch.equal(image, drawn[place]))
            for place in where
        ]
        assert len(set(found)) == min(len(found), 4)


def test_same_generator_same_images(make_real):
    real = make_real(3, (1, 4, 4), per_class=4)
    classes = torch.arange(3)
    a, b = (draw_real(real, classes, generator=torch.Generator().manual_seed(7)) for _ in "ab")
    assert torch.equal(a, b)


def test_each_image_is_fitted_as_if_it_were_alone():
    goal = torch.tensor([[[[0.3]]], [[[-0.7]]]])
    both, alone = nn.Linear(1, 2, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        both.weight.zero_()
        alone.weight.zero_()
    projected = []
    for module, images in ((both, goal), (alone, goal[1:])):
        fit_images(
            module,
            images,
            lr=0.1,
            steps=60,
            render=lambda module=module: module.weight.reshape(-1, 1, 1, 1),
            project=lambda module=module: projected.append(module),
        )
        assert module.weight.grad is None
    assert torch.equal(both.weight[1], alone.weight[0])
    torch.testing.assert_close(both.weight.detach().reshape(goal.shape), goal, atol=0.05, rtol=0)
    assert projected == [both] * 60 + [alone] * 60
