"""What the engine takes where nobody has said: the same on every CPU, and what a card has."""

from __future__ import annotations

import pytest
import torch

from distill_core.config.sections import EngineOptions
from distill_core.engine.device_defaults import cache_size, check_precision, chunk_size
from registry import InputError
from tests.distill_core.fake_card import GIB, fake_card

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_cpu_is_the_same_everywhere() -> None:
    assert cache_size("auto", CPU) == 256 * 2**20
    assert chunk_size(None, CPU, splits=True) == 250


@pytest.mark.parametrize(
    ("free", "cache", "chunk"),
    [
        (79 * GIB, 16 * GIB, 1000),
        (39 * GIB, 16 * GIB, 1000),
        (23 * GIB, 8 * GIB, 500),
        (15 * GIB, 4 * GIB, 250),
        (7 * GIB, 2 * GIB, 250),
        (6 * GIB, 2 * GIB, 250),  # a little less free changes nothing
        (1, 1, 250),
        (0, 1, 250),
    ],
)
def test_a_card_gives_what_it_has(
    free: int, cache: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_card(monkeypatch, free=free)
    assert cache_size("auto", CUDA) == cache
    assert chunk_size(None, CUDA, splits=True) == chunk
    # With batch normalisation the chunk decides the result, which may not depend on the card.
    assert chunk_size(None, CUDA, splits=False) == 250


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_what_is_asked_for_is_taken(device: torch.device) -> None:
    assert chunk_size(70, device, splits=False) == 70
    assert cache_size("none", device) == 0
    assert cache_size("1GiB", device) == GIB


def test_a_card_without_bfloat16_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    card = fake_card(monkeypatch, name="Tesla T4", capability=(7, 5))
    half = EngineOptions(precision="bfloat16")
    with pytest.raises(InputError) as caught:
        check_precision(half, CUDA)
    assert caught.value.what == (
        "option engine.precision = bfloat16 cannot be used: Tesla T4, compute capability 7.5, has "
        "no bfloat16."
    )
    check_precision(EngineOptions(), CUDA)
    check_precision(half, CPU)
    card.capability = (8, 0)
    check_precision(half, CUDA)
