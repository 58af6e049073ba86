"""Representation `basis`: every image is a mixture of a few images that all classes share.

Stored are the bases, at half resolution, and a row of coefficients for every item; a row costs as
little as a few pixels, so that a budget buys many more items than whole images.

Source: Deng and Russakovsky 2022 (arXiv:2206.02916), memory addressing.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from distill_core.builtin.representations.decoded import Decoded, as_many, uniform
from distill_core.builtin.representations.images import image_layout
from distill_core.builtin.representations.options import BasisOptions
from distill_core.plugin import (
    DataSpec,
    InputError,
    Placement,
    RealData,
)


class Basis(Decoded):
    """Items are coefficients times bases; as many for every class as the budget leaves room for.

    Each item is a canvas and a cell of its own, class by class, as in `images`.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: budget in images per class, of which bases and coefficients take their numbers; None
            for 1.

    Raises:
        InputError: the bases leave no room for a row of coefficients for every class.
    """

    def __init__(self, options: BasisOptions, *, spec: DataSpec, ipc: float | None = None) -> None:
        super().__init__()
        self.options = options
        self.image_hw = spec.image_shape[1:]
        self.per_class = items_per_class(options, spec, 1 if ipc is None else ipc)
        self.layout = image_layout(spec, self.per_class)
        shape = (options.bases, spec.image_shape[0], *_stored_hw(options, spec))
        self.bases = nn.Parameter(torch.zeros(shape))
        self.coefficients = nn.Parameter(torch.zeros(self.layout.num_canvases, options.bases))

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Draw bases, and the coefficients of each class, uniformly in Xavier's bounds."""
        del placement, real
        count = len(self.bases)
        base_bound = math.sqrt(6 / (count + self.bases[0].numel()))
        row_bound = math.sqrt(6 / (count + self.per_class))
        self.bases.copy_(uniform(self.bases, generator) * base_bound * self.options.init_scale)
        self.coefficients.copy_(uniform(self.coefficients, generator) * row_bound)

    def decode(self, which: Tensor | slice) -> Tensor:
        """Mix bases by the coefficients of items: (n, C, h, w).

        Scaling up is linear, so that it is done once for every base and not for every item.
        """
        rows = self.coefficients[which]
        whole = functional.interpolate(self.bases, self.image_hw, mode="bilinear")
        return (rows @ whole.flatten(1)).view(len(rows), *whole.shape[1:])


def items_per_class(options: BasisOptions, spec: DataSpec, ipc: float) -> int:
    """Return how many rows of coefficients for each class fit in the budget beside the bases.

    Raises:
        InputError: not one.
    """
    channels, h, w = spec.image_shape
    row, image = options.bases, channels * h * w
    bases = options.bases * channels * math.prod(_stored_hw(options, spec))
    room = ipc * spec.num_classes * image - bases
    least = (bases + spec.num_classes * row) / (spec.num_classes * image)
    return as_many(
        room / (spec.num_classes * row),
        InputError(
            f"{options.bases} bases leave no room for coefficients at --ipc {ipc:g}.",
            expected=f"at least {least:.4g} images per class, for one row of every class.",
            next="pass fewer -o repr.bases, a larger -o repr.downsample, or a larger --ipc.",
        ),
    )


def _stored_hw(options: BasisOptions, spec: DataSpec) -> tuple[int, int]:
    h, w = (max(1, side // options.downsample) for side in spec.image_shape[1:])
    return h, w
