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
from podd_plugin.poster_init import area_grid, mosaic, real_areas, unit_areas
from podd_plugin.poster_layout import poster_layout


class Poster(Representation):
    """One canvas for all classes, or one for each; items are patches of an image's size.

    Stored are the canvases, or with option `downsample` smaller ones that are scaled up. Items are
    listed canvas by canvas, column by column as in the published code.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: pixel budget, images per class; None for that of option `size`, or 0.9.
        item_draws: patches that an inner loop of the algorithm draws; None: it has no such loop.

    Raises:
        InputError: the budget or size is smaller than a patch, the class grid does not fit the
            classes, or there are more class cells than pixels on a side.

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
        self.layout, self._cell_grid = poster_layout(options, spec, ipc, item_draws)
        stored_hw = (side // options.downsample for side in self.layout.canvas_hw)
        shape = (self.layout.num_canvases, spec.image_shape[0], *stored_hw)
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
            whole = torch.stack([mosaic(each, self.layout.canvas_hw) for each in areas])
            start = downsample(whole, self.options.downsample)
        self.pixels.copy_(start * self.options.init_scale)

    def expand(self, boxes: Boxes) -> Tensor:
        """Return the patches at `boxes`: (n, C, h, w)."""
        return gather_boxes(self.canvases(), boxes)

    def canvases(self) -> Tensor:
        """Return the posters: (canvases, C, H, W)."""
        return upsample(self.pixels, self.options.downsample, wraps=self.options.cyclic)
