"""Representation `fred`: images as a few coefficients of their cosine transform.

Which frequencies are kept is chosen for every class, once, by how much its real images vary there.
With a sixteenth of the coefficients a budget buys nearly sixteen times as many images.

Source: FreD, Shin et al. 2023 (arXiv:2311.08819).
"""

from __future__ import annotations

from math import prod

import torch
from torch import Generator, Tensor, nn

from distill_core.builtin.representations.class_parts import class_parts
from distill_core.builtin.representations.decoded import Decoded, as_many
from distill_core.builtin.representations.images import image_layout
from distill_core.builtin.representations.options import FredOptions
from distill_core.plugin import (
    DataSpec,
    InputError,
    Placement,
    RealData,
    cosine_basis,
    draw_real,
    lowest_frequencies,
    starting_noise,
    to_device,
)

PUBLISHED_SHARE = 16  # of 32x32 coefficients a channel, 64 are kept


class Fred(Decoded):
    """As many images of every class as the budget buys, each stored by kept DCT coefficients.

    Stored are the coefficients of every item, (items, C, m), and the places of the m kept ones for
    every slot of the class grid, which the budget counts as numbers too. Each item is a canvas
    and a cell of its own, class by class, as in `images`.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: budget in images per class; None for 1.

    Raises:
        InputError: more coefficients than pixels, or a budget below one item for every class.
    """

    kept: Tensor
    slot: Tensor
    down: Tensor
    across: Tensor

    def __init__(self, options: FredOptions, *, spec: DataSpec, ipc: float | None = None) -> None:
        super().__init__()
        self.options = options
        channels, height, width = spec.image_shape
        count = _kept_count(options, spec)
        self.layout = image_layout(spec, items_per_class(count, spec, 1 if ipc is None else ipc))
        self.coefficients = nn.Parameter(torch.zeros(self.layout.num_canvases, channels, count))
        kept = torch.arange(count, dtype=torch.int32).repeat(spec.num_classes, 1)
        self.register_buffer("kept", kept)
        self.register_buffer("slot", self.layout.cell_slot, persistent=False)
        self.register_buffer("down", cosine_basis(height), persistent=False)
        self.register_buffer("across", cosine_basis(width), persistent=False)

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Choose frequencies by the real images; start with real images or noise."""
        count = self.kept.shape[1]
        labels = real.train.labels.cpu()
        lowest = lowest_frequencies(self.layout.canvas_hw)
        for slot, label in enumerate(placement.class_grid.flatten().tolist()):
            members = (labels == label).nonzero().flatten()
            # Of frequencies that vary alike, as those of a single image, the lowest.
            varies = self._variances(real, members)[lowest]
            chosen = lowest[varies.sort(descending=True, stable=True).indices[:count]]
            self.kept[slot] = chosen.sort().values.int()
        if self.options.init == "real":
            start = draw_real(real, placement.cell_class, generator=generator)
            whole = self._transform(start.float()).flatten(2)
            drawn = whole.gather(2, self._places(slice(None)))
        else:
            shape = (self.coefficients.shape[1], *self.layout.canvas_hw)
            drawn = starting_noise(self.coefficients.shape, shape, generator=generator)
        self.coefficients.copy_(drawn)

    def decode(self, which: Tensor | slice) -> Tensor:
        """Put the coefficients of items at their places, and transform them back: (n, C, h, w)."""
        stored = self.coefficients[which]
        height, width = self.layout.canvas_hw
        whole = stored.new_zeros(*stored.shape[:2], height * width)
        whole = whole.scatter(2, self._places(which), stored)
        return self.down.T @ whole.view(*stored.shape[:2], height, width) @ self.across

    def _variances(self, real: RealData, members: Tensor) -> Tensor:
        """How much the coefficients of the images `members` (n,) vary, in their order: (h w,)."""
        parts = class_parts(to_device(members, real.train.device), prod(real.spec.image_shape))
        count, mean, squares = 0, torch.zeros(()), torch.zeros(())
        for images in real.train.stream(parts):
            waves = self._transform(images.cpu().mean(1, keepdim=True)).flatten(1)
            # Chan, Golub and LeVeque 1983: sums of squares about the means of two parts
            size, off = len(waves), waves.mean(0, dtype=torch.float64) - mean
            squares = squares + size * waves.var(0, correction=0).double()
            squares = squares + off**2 * (count * size / (count + size))
            mean = mean + off * (size / (count + size))
            count += size
        return squares / count

    def _places(self, which: Tensor | slice) -> Tensor:
        """Return where the coefficients of items belong: (n, C, m)."""
        places = self.kept[self.slot[which]].long()
        return places[:, None].expand(-1, self.coefficients.shape[1], -1)

    def _transform(self, images: Tensor) -> Tensor:
        """Return the cosine transform of images (n, C, h, w)."""
        return self.down.to(images) @ images @ self.across.to(images).T


def items_per_class(count: int, spec: DataSpec, ipc: float) -> int:
    """Return how many items of `count` coefficients a channel the budget buys for each class.

    Raises:
        InputError: not one.
    """
    channels, height, width = spec.image_shape
    least = (channels + 1) * count / (channels * height * width)
    return as_many(
        (ipc * channels * height * width - count) / (channels * count),
        InputError(
            f"{count} coefficients a channel do not fit in --ipc {ipc:g}.",
            expected=f"at least {least:.4g} images per class, for one item of every class.",
            next="pass fewer -o repr.coefficients, or a larger --ipc.",
        ),
    )


def _kept_count(options: FredOptions, spec: DataSpec) -> int:
    _, height, width = spec.image_shape
    count = options.coefficients or max(1, height * width // PUBLISHED_SHARE)
    if count > height * width:
        raise InputError(
            f"{count} coefficients are more than images of {height}x{width} pixels have.",
            expected=f"at most {height * width}.",
            next="correct -o repr.coefficients.",
        )
    return count
