"""What decoders store is counted: a number that images need and the state lacks is found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from distill_core.builtin.representations.basis import Basis
from distill_core.builtin.representations.ddif import Ddif
from distill_core.builtin.representations.decoded import Decoded
from distill_core.builtin.representations.fred import Fred
from distill_core.builtin.representations.gsdd import Gsdd
from distill_core.builtin.representations.options import (
    BasisOptions,
    DdifOptions,
    FredOptions,
    GsddOptions,
    SpeedOptions,
)
from distill_core.builtin.representations.speed import Speed
from distill_core.contracts.data import DataSpec, RealData
from distill_core.contracts.geometry import Placement
from distill_core.testing import check_representation
from tests.distill_core.testing.faults import fault

SMALL_SPEED = SpeedOptions(tokens=3, dim=4, kept=5, fit_steps=0)
DECODERS: list[tuple[type[Decoded], Any]] = [
    (Basis, BasisOptions(bases=2)),
    (Fred, FredOptions()),
    (Ddif, DdifOptions(width=2, fit_steps=0)),
    (Gsdd, GsddOptions(fit_steps=0)),
    (Speed, SMALL_SPEED),
]


def with_a_mask(decoder: type[Decoded], *, counted: bool) -> type[Decoded]:
    """Return a decoder that also multiplies images by a mask of its own."""

    class Masked(decoder):  # type: ignore[valid-type, misc]
        mask: Tensor

        def __init__(self, *arguments: Any, spec: DataSpec, ipc: float | None = None) -> None:
            super().__init__(*arguments, spec=spec, ipc=ipc)
            shape = (spec.num_classes, *spec.image_shape)
            self.register_buffer("mask", torch.zeros(shape), persistent=counted)

        def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
            super().reset(placement, real, generator=generator)
            self.mask.copy_(torch.rand(self.mask.shape, generator=generator))

        def decode(self, which: Tensor | slice) -> Tensor:
            return super().decode(which) * self.mask[0]

    return Masked


@pytest.mark.parametrize(("decoder", "options"), DECODERS)
@pytest.mark.parametrize(
    ("counted", "sentence"),
    [
        (True, "images per class where 1.0 were asked for"),
        (False, "gives other images after its state was saved and loaded"),
    ],
)
def test_a_mask_beside_what_is_counted_is_found(decoder, options, counted, sentence) -> None:
    masked = with_a_mask(decoder, counted=counted)

    def make(*, spec: DataSpec, ipc: float | None) -> Decoded:
        return masked(options, spec=spec, ipc=ipc)

    assert sentence in fault(check_representation, make)
