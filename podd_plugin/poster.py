"""Representation `poster`: classes share the pixels of one image, cut into overlapping patches."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from distill_core.plugin import (
    Boxes,
    DataSpec,
    Placement,
    RealData,
    Representation,
    downsample,
    gather_boxes,
    starting_noise,
    upsample,
)
from podd_plugin.options import PosterOptions
from podd_plugin.poster_canvas import decoded_canvas
from podd_plugin.poster_init import area_grid, mosaic, real_areas, unit_areas
from podd_plugin.poster_layout import poster_layout, stored_numbers


class Poster(Representation):
    """One canvas for all classes, or one for each; items are patches of an image's size.

    Stored are the canvases, or with option `downsample` smaller ones that are scaled up; with
    option `canvas` they are decoded from other numbers first. Items are listed canvas by canvas,
    column by column as in the published code.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: pixel budget, images per class; None for that of option `size`, or 0.9.
        item_draws: patches that an inner loop of the algorithm draws; None: it has no such loop.

    Raises:
        InputError: the budget or size is smaller than a patch, the class grid does not fit the
            classes, there are more class cells than pixels on a side, or the budget is too small
            for what a canvas is decoded from.

    Source: Shul et al. 2024 (arXiv:2403.12040), section 4.1; cyclic posters and posters per
        class from section 6.
    """

    def __init__(
        self,
        options: PosterOptions,
        *,
        spec: DataSpec,
        ipc: float | None = None,
        item_draws: int | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.layout, self._cell_grid, blocks = poster_layout(options, spec, ipc, item_draws)
        height, width = (side // options.downsample for side in self.layout.canvas_hw)
        self._shape = (self.layout.num_canvases, spec.image_shape[0], height, width)
        if options.canvas == "pixels":
            self.pixels = nn.Parameter(torch.zeros(self._shape))
        else:
            numbers = stored_numbers(spec, ipc)
            self.canvas = decoded_canvas(options.canvas, self._shape, numbers, blocks)

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Draw the starting pixels, as option `init` says."""
        init = self.options.init
        item_shape = (self._shape[1], *self.layout.items.hw)
        if init == "noise":
            start = starting_noise(self._shape, item_shape, generator=generator)
        elif init == "paper":
            start = torch.randn(self._shape, generator=generator)
        else:
            cells = placement.cell_class.reshape(self.layout.num_canvases, -1)
            classes = cells[:, area_grid(self._cell_grid, self.layout.canvas_hw, item_shape[1:])]
            if init == "real":
                areas = real_areas(real, classes, generator=generator)
            else:
                drawn = unit_areas(classes.numel(), item_shape, generator=generator)
                areas = drawn.reshape(*classes.shape, *item_shape)
            whole = torch.stack([mosaic(each, self.layout.canvas_hw) for each in areas])
            start = downsample(whole, self.options.downsample)
        if self.options.canvas == "pixels":
            self.pixels.copy_(start)
        else:
            self.canvas.start(start, generator=generator)

    def expand(self, boxes: Boxes) -> Tensor:
        """Return the patches at `boxes`: (n, C, h, w).

        Canvases are decoded whole, whatever the boxes are: inner loops ask for all patches at once,
        one time in an outer step.
        """
        return gather_boxes(self.canvases(), boxes)

    def canvases(self) -> Tensor:
        """Return the posters: (canvases, C, H, W)."""
        stored = self.pixels if self.options.canvas == "pixels" else self.canvas()
        return upsample(stored, self.options.downsample, wraps=self.options.cyclic)

    def project(self) -> None:
        """Keep the numbers of decoded canvases within their bounds."""
        if self.options.canvas != "pixels":
            self.canvas.project()
