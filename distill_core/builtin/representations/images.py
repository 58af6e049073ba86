"""Representation `images`: every class has whole images of its own, as in most papers."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from distill_core.builtin.representations.options import ImagesOptions
from distill_core.plugin import (
    Boxes,
    DataSpec,
    InputError,
    Layout,
    Placement,
    RealData,
    Representation,
    class_grid_shape,
    draw_real,
    gather_boxes,
    starting_noise,
)


class Images(Representation):
    """A whole number of images per class, each on a canvas of its own.

    Items, canvases and cells are in the order of the slots of the class grid.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: images per class, a whole number from 1; None for 1.

    Raises:
        InputError: `ipc` is not a whole number.
    """

    def __init__(self, options: ImagesOptions, *, spec: DataSpec, ipc: float | None = None) -> None:
        super().__init__()
        self.options = options
        self.layout = image_layout(spec, _whole(1 if ipc is None else ipc))
        self.pixels = nn.Parameter(torch.zeros(self.layout.num_canvases, *spec.image_shape))

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Draw the starting pixels, as option `init` says."""
        if self.options.init == "real":
            start = draw_real(real, placement.cell_class, generator=generator)
        else:
            _, channels, height, width = self.pixels.shape
            shape = (channels, height, width)
            start = starting_noise(self.pixels.shape, shape, generator=generator)
        self.pixels.copy_(start * self.options.init_scale)

    def expand(self, boxes: Boxes) -> Tensor:
        """Return the images at `boxes`: (n, C, h, w)."""
        return gather_boxes(self.pixels, boxes)

    def canvases(self) -> Tensor:
        """Return all images: (K * ipc, C, h, w)."""
        return self.pixels


def _whole(ipc: float) -> int:
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
