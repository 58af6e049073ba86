"""Representation `ddif`: every image is a small network from places to colours.

A field (SIREN) of a few dozen numbers draws a whole image, so that a budget buys many of them. All
fields are evaluated together, one matrix product a layer.

Source: DDiF, Shin et al. 2025 (arXiv:2503.04835).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from distill_core.builtin.representations.decoded import Decoded, as_many, uniform
from distill_core.builtin.representations.images import image_layout
from distill_core.builtin.representations.options import DdifOptions
from distill_core.plugin import (
    DataSpec,
    InputError,
    Placement,
    RealData,
    draw_real,
)

FIT_LR = 5e-4  # published, Adam


class Ddif(Decoded):
    """As many fields of every class as the budget buys.

    A field of width d takes a place u in [-1, 1]^2 through h1 = sin(w0i (W1 u + b1)), more layers
    h = sin(w0 (W h + b)), and a linear one to C values. Each item is a canvas and a cell of its
    own, class by class, as in `images`.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: budget in images per class; None for 1.

    Raises:
        InputError: the budget is below one field for every class.
    """

    places: Tensor

    def __init__(self, options: DdifOptions, *, spec: DataSpec, ipc: float | None = None) -> None:
        super().__init__()
        self.options = options
        channels, height, width = spec.image_shape
        sides = [2, *[options.width] * options.hidden, channels]
        self.layout = image_layout(spec, fields_per_class(sides, spec, 1 if ipc is None else ipc))
        number, layers = self.layout.num_canvases, list(pairwise(sides))
        self.weights = nn.ParameterList(torch.zeros(number, out, into) for into, out in layers)
        self.biases = nn.ParameterList(torch.zeros(number, out, 1) for _, out in layers)
        y, x = (torch.linspace(-1, 1, side) for side in (height, width))
        places = torch.stack([x.repeat(height), y.repeat_interleave(width)])
        self.register_buffer("places", places, persistent=False)

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Draw the fields as SIRENs are, and fit each to a real image of its class."""
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            into = weight.shape[2]
            bound = 1 / into if k == 0 else math.sqrt(6 / into) / self.options.w0
            weight.copy_(uniform(weight, generator) * bound)
            bias.copy_(uniform(bias, generator) / math.sqrt(into))
        if self.options.fit_steps:
            goal = draw_real(real, placement.cell_class, generator=generator)
            self.fit(goal.float(), lr=FIT_LR, steps=self.options.fit_steps)

    def decode(self, which: Tensor | slice) -> Tensor:
        """Evaluate fields at every pixel: (n, C, h, w)."""
        last = len(self.weights) - 1
        values = self.places.expand(len(self.weights[0][which]), *self.places.shape)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias[which], weight[which], values)
            if k < last:
                values = torch.sin((self.options.w0_first if k == 0 else self.options.w0) * values)
        return values.view(*values.shape[:2], *self.layout.canvas_hw)


def fields_per_class(sides: list[int], spec: DataSpec, ipc: float) -> int:
    """Return how many fields with layers of these sizes the budget buys for each class.

    Raises:
        InputError: not one.

    >>> cifar10 = DataSpec("cifar10", tuple("0123456789"), (3, 32, 32), ())
    >>> fields_per_class([2, 6, 6, 3], cifar10, 1)
    37
    """
    image = math.prod(spec.image_shape)
    field = sum((into + 1) * out for into, out in pairwise(sides))
    return as_many(
        ipc * image / field,
        InputError(
            f"a field of {field} numbers is larger than --ipc {ipc:g}.",
            expected=f"at least {field / image:.4g} images per class, for one field a class.",
            next="pass a smaller -o repr.width, or a larger --ipc.",
        ),
    )
