"""Representation `images`: every class has whole images of its own, as in most papers."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from distill_core.builtin.representations.decoded import Decoded, as_many
from distill_core.builtin.representations.options import ImagesOptions
from distill_core.plugin import (
    Boxes,
    DataSpec,
    InputError,
    Layout,
    Placement,
    RealData,
    class_grid_shape,
    downsample,
    draw_real,
    gather_boxes,
    starting_noise,
    upsample,
)


class Images(Decoded):
    """A whole number of images per class, each on a canvas of its own.

    Items, canvases and cells are in the order of the slots of the class grid.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: budget in images per class; None for 1. A whole number; or with `downsample` s, of
            which a budget buys s * s times as many, at least 1 / (s * s).

    Raises:
        InputError: `ipc` is not such a number, or height and width are not multiples of
            `downsample`.
    """

    def __init__(self, options: ImagesOptions, *, spec: DataSpec, ipc: float | None = None) -> None:
        super().__init__()
        self.options = options
        self.layout = image_layout(spec, _per_class(1 if ipc is None else ipc, options, spec))
        channels, height, width = spec.image_shape
        stored = (channels, height // options.downsample, width // options.downsample)
        self.pixels = nn.Parameter(torch.zeros(self.layout.num_canvases, *stored))

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Draw the starting pixels, as option `init` says."""
        if self.options.init == "real":
            whole = draw_real(real, placement.cell_class, generator=generator)
            start = downsample(whole, self.options.downsample)
        else:
            shape = (self.pixels.shape[1], *self.layout.canvas_hw)
            start = starting_noise(self.pixels.shape, shape, generator=generator)
        self.pixels.copy_(start * self.options.init_scale)

    def expand(self, boxes: Boxes) -> Tensor:
        """Return the images at `boxes`: (n, C, h, w)."""
        if self.options.downsample == 1:  # stored as they are: nothing to decode
            return gather_boxes(self.pixels, boxes)
        return super().expand(boxes)

    def decode(self, which: Tensor | slice) -> Tensor:
        """Scale items up: (n, C, h, w)."""
        return upsample(self.pixels[which], self.options.downsample)


def _per_class(ipc: float, options: ImagesOptions, spec: DataSpec) -> int:
    """Return the number of training images of a class."""
    factor, (height, width) = options.downsample, spec.image_shape[1:]
    if height % factor or width % factor:
        raise InputError(
            f"images of {height}x{width} pixels cannot be stored at 1/{factor} of their sides.",
            expected="height and width that are multiples of repr.downsample.",
            next="choose another -o repr.downsample.",
        )
    if factor > 1:  # as many as the budget buys
        return as_many(
            ipc * factor**2,
            InputError(
                f"--ipc {ipc:g} does not buy an image at 1/{factor} of its sides for every class.",
                expected=f"at least {math.ceil(1e4 / factor**2) / 1e4:g} images per class.",
                next="raise --ipc, or use --repr poster, which shares pixels between classes.",
            ),
        )
    if ipc < 1 or ipc != int(ipc):
        raise InputError(
            f"representation 'images' cannot hold {ipc:g} images per class.",
            expected="a whole number of images per class, 1 or more.",
            next="use --repr poster, which shares pixels between classes, or --ipc "
            f"{max(1, int(ipc))}.",
        )
    return int(ipc)


def image_layout(spec: DataSpec, ipc: int) -> Layout:
    """Return the layout of `ipc` images of every class, each item, canvas and cell in one."""
    _, height, width = spec.image_shape
    number = spec.num_classes * ipc
    whole = torch.tensor([0, 0, height, width]).expand(number, 4)
    items = Boxes.of(torch.arange(number), whole)
    return Layout(
        canvas_hw=(height, width),
        num_canvases=number,
        items=items,
        cells=items,
        cell_slot=torch.arange(spec.num_classes).repeat_interleave(ipc),
        grid_shape=class_grid_shape(spec.num_classes),
    )
