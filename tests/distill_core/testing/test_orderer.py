"""The checks of orderers: sound ones pass, every fault is found and named."""

from __future__ import annotations

import contextlib
import random
from typing import Any, ClassVar

import pytest
import torch
from torch import Generator, Tensor

from distill_core.contracts.data import RealData
from distill_core.testing import check_orderer
from registry import InputError
from tests.distill_core.testing.faults import fault


class Reading:
    """Classes as they are numbered."""

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        return torch.arange(real.spec.num_classes).reshape(grid_shape)


def test_a_sound_orderer_passes() -> None:
    check_orderer(Reading, name="x")


class Floating(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        return super().order(real, grid_shape, generator=generator).float()


class Flat(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        return super().order(real, grid_shape, generator=generator).reshape(-1)


class Repeating(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        return torch.zeros(grid_shape, dtype=torch.int64)


class GlobalOrder(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        return torch.randperm(real.spec.num_classes).reshape(grid_shape)


class Shuffler(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        random.random()
        return super().order(real, grid_shape, generator=generator)


class Whitener(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        real.train.images.mul_(0.9)
        return super().order(real, grid_shape, generator=generator)


class Peeking(Reading):
    """Counts the test images of every class, and hides its errors."""

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        with contextlib.suppress(Exception):
            real.test.batch(4, generator=generator)
        return super().order(real, grid_shape, generator=generator)


class Chatty(Reading):
    notes: ClassVar[dict[str, int]] = {"score": 3}


class Strict(Reading):
    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        raise InputError("never.")


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Floating, "returns torch.float32, not torch.int64"),
        (Flat, "the orderer returned a grid of shape (6,)"),
        (Repeating, "not a permutation of the classes"),
        (GlobalOrder, "changes the global random state during order"),
        (Shuffler, "changes the global random state during order"),
        (Whitener, "changes the real data"),
        (Peeking, "looks at real.test"),
        (Chatty, "has `notes` that are not a mapping of text to text"),
        (Strict, "refuses every grid: 1x6 (never.)"),
        (dict, "has no method `order`"),
    ],
)
def test_faults_of_orderers(broken: Any, sentence: str) -> None:
    text = fault(check_orderer, broken)
    assert text.startswith("orderer 'x' ")
    assert sentence in text
