"""Representation `poster`: classes share the pixels of one image, cut into overlapping patches."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from distill_core.plugin import (
    Boxes,
    DataSpec,
    GridShape,
    Options,
    Placement,
    RealData,
    Representation,
    gather_boxes,
    starting_noise,
)
from podd_plugin.poster_init import area_grid, mosaic, real_areas, unit_areas
from podd_plugin.poster_layout import poster_layout
from podd_plugin.poster_size import DEFAULT_IPC


class PosterOptions(Options):
    """Settings of `poster`."""

    size: GridShape | None = Field(
        None,
        description="height x width of each canvas, pixels; default: the largest that the "
        f"budget allows, in the shape of the class grid (without --ipc: {DEFAULT_IPC} IPC)",
    )
    patches: GridShape | None = Field(
        None,
        description="rows x columns of patches on each canvas; they may repeat on a small one. "
        "Default: about 4 for each class and at least 96 in all, as most of the paper's "
        "(6x16 for 2x5 classes), 1.2 for each class for images below 28 pixels, and no two in one "
        "place",
    )
    classes: GridShape | None = Field(
        None, description="rows x columns of the class grid; default: the most square one"
    )
    cyclic: bool = Field(
        False, description="patches go around the borders, so that all pixels are alike"
    )
    per_class: bool | None = Field(
        None, description="a poster for each class (paper, Fig. 9); default: above 1 IPC"
    )
    init: Literal["noise", "paper", "blend", "real"] = Field(
        "noise",
        description="starting pixels: noise of the published code's scale, the paper's N(0, 1), "
        "the published code's cross-faded areas, or cross-faded real images",
    )
    init_scale: float = Field(1.0, gt=0, description="factor on the starting pixels")


class Poster(Representation):
    """One canvas for all classes, or one for each; items are patches of an image's size.

    Items are listed canvas by canvas, column by column as in the published code.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: pixel budget, images per class; None for that of option `size`, or 0.9.

    Raises:
        InputError: the budget or size is smaller than a patch, the class grid does not fit the
            classes, or there are more class cells than pixels on a side.

    Source: Shul et al. 2024 (arXiv:2403.12040), section 4.1; cyclic posters and posters per
        class from section 6.
    """

    def __init__(self, options: PosterOptions, *, spec: DataSpec, ipc: float | None = None) -> None:
        super().__init__()
        self.options = options
        self.layout, self._cell_grid = poster_layout(options, spec, ipc)
        shape = (self.layout.num_canvases, spec.image_shape[0], *self.layout.canvas_hw)
        self.pixels = nn.Parameter(torch.zeros(shape))

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Draw the starting pixels, as option `init` says."""
        init = self.options.init
        item_shape = (self.pixels.shape[1], *self.layout.items.hw)
        if init == "noise":
            start = starting_noise(self.pixels.shape, item_shape, generator=generator)
        elif init == "paper":
            start = torch.randn(self.pixels.shape, generator=generator)
        else:
            cells = placement.cell_class.reshape(self.layout.num_canvases, -1)
            classes = cells[:, area_grid(self._cell_grid, self.layout.canvas_hw, item_shape[1:])]
            if init == "real":
                areas = real_areas(real, classes, generator=generator)
            else:
                drawn = unit_areas(classes.numel(), item_shape, generator=generator)
                areas = drawn.reshape(*classes.shape, *item_shape)
            start = torch.stack([mosaic(each, self.layout.canvas_hw) for each in areas])
        self.pixels.copy_(start * self.options.init_scale)

    def expand(self, boxes: Boxes) -> Tensor:
        """Return the patches at `boxes`: (n, C, h, w)."""
        return gather_boxes(self.pixels, boxes)

    def canvases(self) -> Tensor:
        """Return the posters: (canvases, C, H, W)."""
        return self.pixels
