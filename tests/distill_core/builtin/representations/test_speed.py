"""SPEED: the decoder against plain loops, the choice of entries, its counts and its start."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from distill_core.builtin.representations.options import SpeedOptions
from distill_core.builtin.representations.speed import Speed, shared_numbers
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Placement
from distill_core.contracts.streams import seeded
from distill_core.testing import check_representation
from registry import InputError, OptionError, check_options

SMALL = {"tokens": 3, "dim": 4, "kept": 5, "patch": 2}


def spec(num_classes: int = 10, shape: tuple[int, int, int] = (3, 32, 32)) -> DataSpec:
    return DataSpec("made", tuple(map(str, range(num_classes))), shape, ())


def started(real, ipc: float = 5, seed: int = 0, **options) -> Speed:
    made = Speed(SpeedOptions(**{**SMALL, **options}), spec=real.spec, ipc=ipc)
    grid = torch.arange(real.spec.num_classes).reshape(made.layout.grid_shape)
    made.reset(Placement(made.layout, grid), real, generator=seeded(seed, "init"))
    return made


@pytest.mark.parametrize(
    ("classes", "side", "options", "images"),
    [
        (10, 32, {}, 17),
        (100, 32, {"tokens": 64, "dim": 96, "heads": 3, "blocks": 2}, 11),
        (
            200,
            64,
            {"tokens": 128, "dim": 256, "heads": 8, "blocks": 2, "patch": 8},
            17,
        ),
    ],
)
def test_published_sizes_and_counts(classes: int, side: int, options, images: int) -> None:
    facts = spec(classes, (3, side, side))
    made = Speed(SpeedOptions(**options), spec=facts, ipc=1)
    number, dim, chosen = classes * images, made.options.dim, made.options
    assert made.layout.num_canvases == number
    published = chosen.tokens * dim + 1.5 * number * chosen.heads * chosen.kept
    published += chosen.blocks * (3 * dim**2 + 7 * dim) + 3 * chosen.patch**2 * (dim + 1)
    stored = sum(tensor.numel() for tensor in made.state_dict().values())
    assert stored == published <= classes * 3 * side * side


def test_tokens_and_decoder_are_counted(make_real) -> None:
    made = started(make_real(2, (3, 4, 6)), fit_steps=0)
    apart = ("entries", "places")
    shared = {name: tensor for name, tensor in made.state_dict().items() if name not in apart}
    count = sum(tensor.numel() for tensor in shared.values())
    assert count == shared_numbers(made.options, spec(2, (3, 4, 6)))


def test_every_pixel_comes_from_the_mixed_tokens_of_its_patch(make_real) -> None:
    real = make_real(2, (3, 4, 6))
    made = started(real, fit_steps=0, blocks=2).double()
    with torch.no_grad():
        for k, parameter in enumerate(made.parameters()):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=seeded(k, "more")))
    state = {name: tensor.numpy() for name, tensor in made.state_dict().items()}

    def linear(name: str, vector: np.ndarray) -> np.ndarray:
        return np.array(state[f"{name}.weight"] @ vector + state[f"{name}.bias"])

    def norm(name: str, vector: np.ndarray) -> np.ndarray:
        unit = (vector - vector.mean()) / math.sqrt(vector.var() + 1e-6)
        return np.array(unit * state[f"{name}.weight"] + state[f"{name}.bias"])

    images = made.expand(made.layout.items).detach().numpy()
    for item, image in enumerate(images):
        places = state["places"][item].view(np.int16)
        for patch in range(6):
            mixed = np.zeros(4)
            for head in range(2):
                for entry in range(5):
                    where, token = divmod(int(places[head, entry]), 3)
                    if where == patch:
                        part = state["tokens"][token, 2 * head : 2 * head + 2]
                        mixed[2 * head : 2 * head + 2] += state["entries"][item, head, entry] * part
            z = np.zeros(4)
            for block in ("blocks.0", "blocks.1"):
                z = norm(f"{block}.norm_mixed", z + linear(f"{block}.proj", mixed))
                hidden = linear(f"{block}.hidden", z)
                gelu = [x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in hidden]
                z = norm(f"{block}.norm", z + linear(f"{block}.out", np.array(gelu)))
            pixels = linear("pixels", z).reshape(3, 2, 2)
            row, col = 2 * (patch // 3), 2 * (patch % 3)
            np.testing.assert_allclose(image[:, row : row + 2, col : col + 2], pixels, atol=1e-10)


def test_the_largest_entries_of_every_map_are_kept(make_real, monkeypatch) -> None:
    drawn = []
    randn = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *a, **k: drawn.append(randn(*a, **k)) or drawn[-1])
    made = started(make_real(2, (1, 4, 6)), fit_steps=0)
    maps = 0.2 * drawn[-1]
    assert maps.shape == (made.layout.num_canvases, 2, 6 * 3)
    places = made.places.view(torch.int16)[..., :5]
    for item in range(len(maps)):
        for head in range(2):
            most = sorted(range(18), key=lambda place: -abs(maps[item, head, place]))[:5]
            assert places[item, head].tolist() == sorted(most)
            kept = maps[item, head, sorted(most)]
            assert torch.equal(made.entries[item, head].detach(), kept)


def test_fitting_brings_images_nearer_to_real_ones_of_their_class(make_real) -> None:
    real = make_real(3, (1, 6, 6), per_class=1)
    loose, fitted = (started(real, ipc=6, fit_steps=steps) for steps in (0, 80))
    placement = Placement(loose.layout, torch.arange(3).reshape(loose.layout.grid_shape))
    goal = real.train.images[placement.cell_class]
    errors = [float((made.canvases().detach() - goal).square().mean()) for made in (loose, fitted)]
    assert errors[1] < 0.7 * errors[0]
    assert all(parameter.grad is None for parameter in fitted.parameters())


def test_the_start_follows_the_generator(make_real) -> None:
    real = make_real(3, (1, 6, 6))
    one, same, other = (started(real, seed=seed, fit_steps=3) for seed in (0, 0, 1))
    assert torch.equal(one.canvases(), same.canvases())
    assert not torch.equal(one.canvases(), other.canvases())


@pytest.mark.parametrize("more", [{"fit_steps": 3}, {"fit_steps": 0, "blocks": 2, "kept": 6}])
def test_it_keeps_the_contract(more) -> None:
    check_representation(partial(Speed, SpeedOptions(**{**SMALL, **more})), name="speed")


@pytest.mark.parametrize(
    ("options", "ipc", "what", "expected"),
    [
        ({}, 0.2, "tokens and decoder, 5392 numbers, leave no room", "at least 0.2224 images"),
        ({"patch": 5}, 1, "32x32 pixels cannot be tiled with patches of 5", "multiples"),
        ({"kept": 1025}, 1, "to 64 patches has 1024 entries, and repr.kept = 1025", "at most 1024"),
        ({"tokens": 513}, 1, "to 64 patches has 32832 entries", "at most 32768"),
    ],
)
def test_what_does_not_fit_is_refused(options, ipc, what, expected) -> None:
    with pytest.raises(InputError) as caught:
        Speed(SpeedOptions(**options), spec=spec(), ipc=ipc)
    assert what in caught.value.what
    assert expected in caught.value.expected


def test_tokens_that_cannot_be_split_are_refused() -> None:
    with pytest.raises(OptionError, match=r"repr.dim = 32 cannot be split into 3 heads"):
        check_options(SpeedOptions, {"heads": 3}, where="repr")
