"""compact_whitening.py: a ZCA in few numbers, against matrices that are known in closed form."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill_core.artefact import compact_whitening
from distill_core.artefact.compact_whitening import (
    Compact,
    compact,
    expanded,
    how_to_load,
    is_compact,
)
from distill_core.artefact.count_storage import size
from distill_core.contracts.whitening import Whitening
from distill_core.data.whitening import fit_whitening
from distill_core.system.files import write_tensors
from registry import InputError

SHAPE = (3, 4, 6)
D = math.prod(SHAPE)


@pytest.fixture(autouse=True)
def _small_matrices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_whitening, "LEAST", 0)


def basis() -> Tensor:
    """Waves over channels, rows and columns from their formula, one number after another."""
    sides = [
        [
            [
                math.sqrt((2 if k else 1) / n) * math.cos(math.pi * k * (2 * x + 1) / (2 * n))
                for x in range(n)
            ]
            for k in range(n)
        ]
        for n in SHAPE
    ]
    channels, rows, cols = (torch.tensor(side, dtype=torch.float64) for side in sides)
    return torch.kron(channels, torch.kron(rows, cols))


def made(tensors: dict[str, Tensor], rms_error: float) -> Compact:
    found = compact(tensors, SHAPE, rms_error)
    assert found is not None
    return found


def test_what_is_diagonal_over_waves_is_a_diagonal() -> None:
    """Plus two other numbers, which are kept, and of which nothing is left out."""
    over_waves = torch.diag(torch.linspace(1, 5, D, dtype=torch.float64))
    over_waves[3, 50] = over_waves[50, 3] = 0.5
    over_waves[7, 9] = over_waves[9, 7] = -0.25
    matrix = (basis().T @ over_waves @ basis()).float()
    found = made({"matrix": matrix, "mean": torch.ones(D)}, 1e-3)
    assert found.tensors["columns"].tolist() == [50, 9]
    assert found.tensors["values"].tolist() == [0.5, -0.25]
    assert torch.equal(found.tensors["mean"], torch.ones(D))
    assert found.rms_error < 1e-4
    back = expanded(found.tensors, SHAPE)
    assert back.keys() == {"matrix", "mean"}
    assert torch.allclose(back["matrix"], matrix, atol=1e-5)
    assert torch.equal(back["matrix"], back["matrix"].T)


def test_the_stated_error_is_that_of_images() -> None:
    """Noise that is the same everywhere, a covariance with a flat tail; fitted to few images."""
    generator = torch.Generator().manual_seed(0)
    spread = 40 / (1 + torch.arange(D, dtype=torch.float64)) + 1
    noise = torch.randn(3000, D, generator=generator, dtype=torch.float64) * spread
    images = (128 + noise @ basis()).clamp(0, 255).to(torch.uint8).view(-1, *SHAPE)
    whitening = fit_whitening("zca", images[:1500], strength=0.1)
    exact = whitening.apply(images[1500:])
    tensors = whitening.tensors()
    sizes = []
    for allowed in (0.1, 0.05):
        found = made(tensors, allowed)
        again = Whitening.from_tensors("zca", expanded(found.tensors, SHAPE))
        apart = again.apply(images[1500:]) - exact
        rms = float((apart.square().mean() / exact.square().mean()).sqrt())
        assert found.rms_error <= allowed
        assert rms == pytest.approx(found.rms_error, rel=0.25)
        sizes.append(size(found.tensors))
    assert sizes[0] < sizes[1] < size(tensors) / 2


def test_what_is_not_small_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(D, D, generator=generator)
    matrix = noise @ noise.T
    assert compact({"matrix": matrix}, SHAPE, 1e-6) is None
    assert compact({"mean": torch.ones(3), "std": torch.ones(3)}, SHAPE) is None
    assert compact({}, SHAPE) is None
    assert compact({"matrix": torch.eye(D)}, SHAPE) is not None
    monkeypatch.setattr(compact_whitening, "LEAST", 5 * D * D)
    assert compact({"matrix": torch.eye(D)}, SHAPE) is None


def test_plain_code_makes_the_same_matrix(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(D, D, generator=generator)
    found = made({"matrix": 20 * torch.eye(D) + noise + noise.T}, 0.05)
    write_tensors(tmp_path / "whitening.safetensors", found.tensors, {})
    names: dict[str, Tensor] = {}
    with contextlib.chdir(tmp_path):
        exec(how_to_load(SHAPE), names)
    assert torch.allclose(names["matrix"], expanded(found.tensors, SHAPE)["matrix"], atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"diagonal": torch.ones(D - 1)},
        {"columns": torch.tensor([D], dtype=torch.int16)},
        {"columns": torch.tensor([-1], dtype=torch.int16)},
        {"values": torch.ones(2)},
        {"counts": torch.zeros(D, dtype=torch.int16)},
        {"counts": torch.tensor([2, -1] + [0] * (D - 2), dtype=torch.int16)},
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Tensor]) -> None:
    sound = {
        "diagonal": torch.ones(D),
        "counts": torch.tensor([1] + [0] * (D - 1), dtype=torch.int16),
        "columns": torch.tensor([5], dtype=torch.int16),
        "values": torch.ones(1, dtype=torch.bfloat16),
    }
    assert is_compact(sound)
    assert expanded(sound, SHAPE)["matrix"].shape == (D, D)
    with pytest.raises(InputError, match="does not fit images"):
        expanded(sound | change, SHAPE)
