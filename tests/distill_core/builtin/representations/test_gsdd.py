"""GSDD: sums of Gaussians against plain loops, their start, their bounds and their budget."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from distill_core.builtin.representations.gsdd import Gsdd, GsddOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Placement
from distill_core.contracts.streams import seeded
from distill_core.testing import check_representation
from distill_core.testing.assertions import perturb
from registry import InputError


def spec(num_classes: int = 10, shape: tuple[int, int, int] = (3, 32, 32)) -> DataSpec:
    return DataSpec("made", tuple(map(str, range(num_classes))), shape, ())


def placed(made: Gsdd, num_classes: int) -> Placement:
    return Placement(made.layout, torch.arange(num_classes).reshape(made.layout.grid_shape))


def started(real, ipc: float = 1, seed: int = 0, **options) -> Gsdd:
    made = Gsdd(GsddOptions(**options), spec=real.spec, ipc=ipc)
    placement = placed(made, real.spec.num_classes)
    made.reset(placement, real, generator=seeded(seed, "init"))
    return made


@pytest.mark.parametrize(("points", "ipc", "images"), [(None, 1, 15), (None, 2, 31), (42, 10, 81)])
def test_published_sizes(points: int | None, ipc: float, images: int) -> None:
    """30, 62 and 160 images are published; two bytes buy twice what four do."""
    made = Gsdd(GsddOptions(points=points), spec=spec(), ipc=ipc)
    assert made.means.shape == (10 * images, points or 22, 2)
    stored = sum(tensor.numel() for tensor in made.state_dict().values())
    assert stored == 10 * images * (points or 22) * 9 <= 10 * ipc * 3 * 32 * 32


@pytest.mark.parametrize(("side", "points"), [(8, 4), (16, 16), (20, 22), (64, 22)])
def test_small_images_have_fewer_gaussians(side: int, points: int) -> None:
    assert Gsdd(GsddOptions(), spec=spec(2, (1, side, side))).means.shape[1] == points


def test_every_pixel_is_the_mean_of_four_sums_of_gaussians(make_real) -> None:
    real = make_real(2, (3, 4, 8))
    made = started(real, ipc=1, points=3, init="noise").double()
    perturb(made, 0.3, seed=1)
    images = made.expand(made.layout.items).detach().numpy()
    state = {name: tensor.numpy() for name, tensor in made.state_dict().items()}
    box = np.diag([1 / 12 * (2 / 8) ** 2, 1 / 12 * (2 / 4) ** 2])  # a pixel's, from -1 to 1
    for item, image in enumerate(images):
        for row in range(4):
            for col in range(8):
                pixel = np.zeros(3)
                for down, right in [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)]:
                    place = np.array([2 * (col + right) / 8 - 1, 2 * (row + down) / 4 - 1])
                    for k in range(3):
                        l11, l21, l22 = state["factors"][item, k]
                        lower = np.array([[l11, 0], [l21, l22]])
                        away = place - state["means"][item, k]
                        wave = away @ np.linalg.inv(lower @ lower.T + box) @ away
                        strength = state["opacities"][item, k] * math.exp(-wave / 2)
                        pixel += strength * state["colours"][item, k] / 4
                np.testing.assert_allclose(image[:, row, col], pixel, atol=1e-12)


def test_single_precision_is_enough_for_the_narrowest_gaussian(make_real) -> None:
    made = started(make_real(2, (3, 32, 32)), ipc=1, fit_steps=0)
    with torch.no_grad():
        made.factors.zero_()
    single = made.canvases().detach()
    torch.testing.assert_close(single.double(), made.double().canvases(), atol=1e-3, rtol=1e-3)


def test_fitting_brings_every_image_nearer_to_a_real_one_of_its_class(make_real) -> None:
    real = make_real(3, (1, 6, 6), per_class=1)
    loose, fitted = (started(real, ipc=3, points=4, fit_steps=steps) for steps in (0, 100))
    goal = real.train.images[placed(loose, 3).cell_class]

    def error(made: Gsdd) -> torch.Tensor:
        return (made.canvases().detach() - goal).square().flatten(1).mean(1)

    assert bool((error(fitted) < 0.9 * error(loose)).all())
    assert all(parameter.grad is None for parameter in fitted.parameters())
    assert float(fitted.means.detach().abs().max()) <= 63 / 64


def test_the_start_follows_the_generator(make_real) -> None:
    real = make_real(3, (1, 6, 6))
    for options in ({"fit_steps": 2}, {"init": "noise"}):
        one, same, other = (started(real, ipc=2, seed=seed, **options) for seed in (0, 0, 1))
        assert torch.equal(one.canvases(), same.canvases())
        assert not torch.equal(one.canvases(), other.canvases())


def test_the_boundary_loss_is_the_published_one_and_pushes_inwards(make_real) -> None:
    made = started(make_real(2, (1, 8, 8)), fit_steps=0).double()
    loss = made.penalty()
    assert loss is not None
    logs = [
        math.log(1 - float(u) ** 2) + math.log(1 - float(v) ** 2)
        for u, v in made.means.detach().flatten(0, 1)
    ]
    assert float(loss.detach()) == pytest.approx(-0.1 * sum(logs) / len(logs))
    (push,) = torch.autograd.grad(loss, [made.means])
    assert bool((push * made.means > 0).all())
    assert started(make_real(2, (1, 8, 8)), fit_steps=0, boundary=0).penalty() is None


@pytest.mark.parametrize("options", [GsddOptions(fit_steps=3), GsddOptions(init="noise", points=3)])
def test_it_keeps_the_contract(options: GsddOptions) -> None:
    check_representation(partial(Gsdd, options), name="gsdd")


def test_an_image_larger_than_the_budget_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        Gsdd(GsddOptions(), spec=spec(), ipc=0.06)
    assert caught.value.what == "an image of 22 Gaussians has 198 numbers, more than --ipc 0.06."
    assert "at least 0.06445 images per class" in caught.value.expected
