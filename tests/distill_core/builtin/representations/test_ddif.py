"""DDiF: fields against a plain loop over images and pixels."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from distill_core.builtin.representations.ddif import Ddif, DdifOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Placement
from distill_core.contracts.streams import seeded
from distill_core.testing import check_representation
from registry import InputError


def spec(num_classes: int = 10, shape: tuple[int, int, int] = (3, 32, 32)) -> DataSpec:
    return DataSpec("made", tuple(map(str, range(num_classes))), shape, ())


def started(real, ipc: float = 1, seed: int = 0, **options) -> Ddif:
    made = Ddif(DdifOptions(**options), spec=real.spec, ipc=ipc)
    grid = torch.arange(real.spec.num_classes).reshape(made.layout.grid_shape)
    made.reset(Placement(made.layout, grid), real, generator=seeded(seed, "init"))
    return made


@pytest.mark.parametrize(
    ("classes", "width", "numbers", "fields"), [(10, 6, 81, 37), (100, 10, 173, 17)]
)
def test_published_sizes(classes: int, width: int, numbers: int, fields: int) -> None:
    made = Ddif(DdifOptions(width=width), spec=spec(classes), ipc=1)
    assert made.layout.num_canvases == classes * fields
    stored = sum(tensor.numel() for tensor in made.state_dict().values())
    assert stored == classes * fields * numbers


def test_every_pixel_is_the_field_at_its_place(make_real) -> None:
    real = make_real(2, (3, 4, 5))
    made = started(real, ipc=2, width=3, hidden=3, w0_first=7.0, w0=2.0, fit_steps=0).double()
    images = made.expand(made.layout.items)
    for item, image in enumerate(images):
        layers = [(w[item], b[item, :, 0]) for w, b in zip(made.weights, made.biases, strict=True)]
        for row in range(4):
            for col in range(5):
                h = torch.tensor([-1 + 2 * col / 4, -1 + 2 * row / 3], dtype=torch.float64)
                for k, (weight, bias) in enumerate(layers):
                    h = weight @ h + bias
                    if k < len(layers) - 1:
                        h = torch.sin((7.0 if k == 0 else 2.0) * h)
                torch.testing.assert_close(image[:, row, col], h, atol=1e-6, rtol=1e-6)


def test_the_start_has_the_bounds_of_sirens(make_real) -> None:
    made = started(make_real(10, (3, 8, 8)), ipc=2, width=5, fit_steps=0)
    bounds = [1 / 2, math.sqrt(6 / 5) / 10, math.sqrt(6 / 5) / 10]
    for weight, bound in zip(made.weights, bounds, strict=True):
        assert 0.9 * bound < float(weight.detach().abs().max()) <= bound


def test_fitting_brings_every_field_nearer_to_a_real_image_of_its_class(make_real) -> None:
    real = make_real(3, (1, 6, 6), per_class=1)
    loose, fitted = (started(real, ipc=3, width=4, fit_steps=steps) for steps in (0, 300))
    goal = real.train.images[
        Placement(loose.layout, torch.arange(3).reshape(loose.layout.grid_shape)).cell_class
    ]

    def error(made: Ddif) -> torch.Tensor:
        return (made.canvases().detach() - goal).square().flatten(1).mean(1)

    assert bool((error(fitted) < error(loose)).all())
    assert all(parameter.grad is None for parameter in fitted.parameters())


def test_the_start_follows_the_generator(make_real) -> None:
    real = make_real(3, (1, 6, 6))
    one, same, other = (started(real, ipc=2, seed=seed, fit_steps=3) for seed in (0, 0, 1))
    assert torch.equal(one.canvases(), same.canvases())
    assert not torch.equal(one.canvases(), other.canvases())


def test_it_keeps_the_contract() -> None:
    check_representation(partial(Ddif, DdifOptions(width=2, fit_steps=3)), name="ddif")


def test_a_field_larger_than_the_budget_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        Ddif(DdifOptions(), spec=spec(), ipc=0.02)
    assert caught.value.what == "a field of 81 numbers is larger than --ipc 0.02."
    assert "at least 0.02637 images per class" in caught.value.expected
