"""Canvases of posters that are decoded from fewer numbers than they have pixels.

A canvas is cut into patches only after it is decoded, so that patches overlap on it whatever it is
decoded from. All but `Gaussians` are linear in every one of their parameters, and start as near to
given canvases as their numbers allow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn

from distill_core.plugin import (
    GAUSSIAN_BORDER,
    InputError,
    colours_at,
    cosine_basis,
    even_factors,
    fit_images,
    lowest_frequencies,
    sum_gaussians,
)

Shape = tuple[int, int, int, int]  # canvases, C, H, W
FIT_LR, FIT_STEPS = 1e-2, 200  # of Gaussians at the start, as those of `gsdd`


class Canvas(nn.Module, ABC):
    """Stored numbers of all canvases of a poster."""

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the canvases: (canvases, C, H, W), differentiable."""

    @abstractmethod
    def start(self, whole: Tensor, *, generator: Generator) -> None:
        """Set the numbers so that the canvases are near to `whole` (canvases, C, H, W)."""

    def project(self) -> None:
        """Keep the numbers within their bounds, if they have some."""


class Frequencies(Canvas):
    """Blocks as the lowest coefficients of their cosine transform, as many for every channel.

    Args:
        shape: of the canvases.
        numbers: the budget, for all canvases.
        blocks: rows and columns of blocks on each canvas, which divide its height and width.
    """

    kept: Tensor
    down: Tensor
    across: Tensor

    def __init__(self, shape: Shape, numbers: int, blocks: tuple[int, int]) -> None:
        super().__init__()
        canvases, channels, height, width = shape
        self._block_hw = (height // blocks[0], width // blocks[1])
        every = self._block_hw[0] * self._block_hw[1]
        stored = canvases * blocks[0] * blocks[1] * channels
        bought = _count(numbers, stored, "one frequency of every block", lower="-o repr.blocks")
        count = min(bought, every)
        self.coefficients = nn.Parameter(torch.zeros(canvases, *blocks, channels, count))
        lowest = lowest_frequencies(self._block_hw)[:count].sort().values
        self.register_buffer("kept", lowest, persistent=False)
        self.register_buffer("down", cosine_basis(self._block_hw[0]), persistent=False)
        self.register_buffer("across", cosine_basis(self._block_hw[1]), persistent=False)

    def forward(self) -> Tensor:
        """Put the coefficients at their places, transform them back, and lay out the blocks."""
        front = self.coefficients.shape[:-1]
        whole = self.coefficients.new_zeros(*front, self._block_hw[0] * self._block_hw[1])
        whole = whole.index_copy(-1, self.kept, self.coefficients)
        return from_blocks(self.down.T @ whole.view(*front, *self._block_hw) @ self.across)

    @torch.no_grad()
    def start(self, whole: Tensor, *, generator: Generator) -> None:
        """Keep the lowest frequencies of every block."""
        waves = self.down @ to_blocks(whole, self._block_hw) @ self.across.T
        self.coefficients.copy_(waves.flatten(-2)[..., self.kept])


class LowRank(Canvas):
    """Every channel of a canvas as a product of two thin matrices.

    Args:
        shape: of the canvases.
        numbers: the budget, for all canvases.
    """

    def __init__(self, shape: Shape, numbers: int) -> None:
        super().__init__()
        canvases, channels, height, width = shape
        stored = canvases * channels * (height + width)
        bought = _count(numbers, stored, "rank 1 of every channel", lower="-o repr.area")
        rank = min(bought, height, width)
        self.columns = nn.Parameter(torch.zeros(canvases, channels, height, rank))
        self.rows = nn.Parameter(torch.zeros(canvases, channels, rank, width))

    def forward(self) -> Tensor:
        """Multiply the factors."""
        return self.columns @ self.rows

    @torch.no_grad()
    def start(self, whole: Tensor, *, generator: Generator) -> None:
        """Keep the largest singular values, shared evenly by both factors."""
        columns, rows = _factors(whole, self.columns.shape[-1])
        self.columns.copy_(columns)
        self.rows.copy_(rows)


class Bases(Canvas):
    """Blocks as mixtures of a few bases that all blocks of all canvases share.

    Args:
        shape: of the canvases.
        numbers: the budget, for all canvases.
        blocks: rows and columns of blocks on each canvas, which divide its height and width.
    """

    def __init__(self, shape: Shape, numbers: int, blocks: tuple[int, int]) -> None:
        super().__init__()
        canvases, channels, height, width = shape
        self._block_hw = (height // blocks[0], width // blocks[1])
        rows, pixels = canvases * blocks[0] * blocks[1], channels * height * width
        base = pixels // (blocks[0] * blocks[1])
        lower = "-o repr.area, choose another -o repr.blocks"
        bought = _count(numbers, base + rows, "a base with its coefficients", lower=lower)
        count = min(bought, rows, base)
        self.bases = nn.Parameter(torch.zeros(count, channels, *self._block_hw))
        self.coefficients = nn.Parameter(torch.zeros(canvases, *blocks, count))

    def forward(self) -> Tensor:
        """Mix the bases of every block, and lay out the blocks."""
        mixed = self.coefficients @ self.bases.flatten(1)
        return from_blocks(mixed.view(*mixed.shape[:-1], *self.bases.shape[1:]))

    @torch.no_grad()
    def start(self, whole: Tensor, *, generator: Generator) -> None:
        """Keep the largest singular values of the table of blocks."""
        table = to_blocks(whole, self._block_hw).flatten(3)
        coefficients, bases = _factors(table.flatten(0, 2), len(self.bases))
        self.coefficients.copy_(coefficients.view_as(self.coefficients))
        self.bases.copy_(bases.view_as(self.bases))


class Gaussians(Canvas):
    """Blocks as sums of coloured Gaussians, as many for every block.

    A Gaussian has a place in its block, a shape and a colour: eight numbers with three channels.

    Args:
        shape: of the canvases.
        numbers: the budget, for all canvases.
        blocks: rows and columns of blocks on each canvas, which divide its height and width.

    Source: GSDD, Jiang et al. 2025 (arXiv:2509.26219), for images; the opacity of a Gaussian, which
        is a factor on its colour, is left out.
    """

    def __init__(self, shape: Shape, numbers: int, blocks: tuple[int, int]) -> None:
        super().__init__()
        canvases, channels, height, width = shape
        self._block_hw = (height // blocks[0], width // blocks[1])
        self._blocks = (canvases, *blocks)
        every = canvases * blocks[0] * blocks[1]
        stored = every * (5 + channels)
        lower = "-o repr.blocks, or without it -o repr.area"
        points = (every, _count(numbers, stored, "one Gaussian of every block", lower=lower))
        self.means = nn.Parameter(torch.zeros(*points, 2))
        self.factors = nn.Parameter(torch.zeros(*points, 3))
        self.colours = nn.Parameter(torch.zeros(*points, channels))

    def forward(self) -> Tensor:
        """Sum the Gaussians of every block, and lay out the blocks."""
        summed = self._summed()
        return from_blocks(summed.view(*self._blocks, *summed.shape[1:]))

    @torch.no_grad()
    def start(self, whole: Tensor, *, generator: Generator) -> None:
        """Spread Gaussians at random, and fit every block."""
        goal = to_blocks(whole, self._block_hw).flatten(0, 2).float()
        spread = 2 * torch.rand(self.means.shape, generator=generator) - 1
        self.means.copy_(spread * GAUSSIAN_BORDER)
        self.factors.copy_(even_factors(self.means.shape[1]).expand_as(self.factors))
        self.colours.copy_(colours_at(self.means, goal))
        fit_images(
            self, goal, lr=FIT_LR, steps=FIT_STEPS, render=self._summed, project=self.project
        )

    @torch.no_grad()
    def project(self) -> None:
        """Put means back into their blocks."""
        self.means.clamp_(-GAUSSIAN_BORDER, GAUSSIAN_BORDER)

    def _summed(self) -> Tensor:
        """Return all blocks: (blocks, C, h, w)."""
        return sum_gaussians(self.means, self.factors, self.colours, hw=self._block_hw)


def decoded_canvas(kind: str, shape: Shape, numbers: int, blocks: tuple[int, int]) -> Canvas:
    """Make the canvases of a poster that is decoded from at most `numbers` numbers.

    Args:
        kind: frequencies, bases, lowrank or gaussians.
        shape: canvases, C, H, W.
        numbers: the budget.
        blocks: rows and columns of blocks on each canvas; without effect for lowrank.

    Raises:
        InputError: the budget is too small.
    """
    if kind == "lowrank":
        return LowRank(shape, numbers)
    if kind == "gaussians":
        return Gaussians(shape, numbers, blocks)
    return {"frequencies": Frequencies, "bases": Bases}[kind](shape, numbers, blocks)


def to_blocks(whole: Tensor, block_hw: tuple[int, int]) -> Tensor:
    """Cut canvases (n, C, H, W) into blocks: (n, rows, cols, C, h, w)."""
    (count, channels, height, width), (h, w) = whole.shape, block_hw
    cut = whole.view(count, channels, height // h, h, width // w, w)
    return cut.permute(0, 2, 4, 1, 3, 5)


def from_blocks(blocks: Tensor) -> Tensor:
    """Lay out blocks (n, rows, cols, C, h, w) on canvases: (n, C, rows h, cols w)."""
    count, rows, cols, channels, h, w = blocks.shape
    return blocks.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, rows * h, cols * w)


def _count(numbers: int, each: int, what: str, *, lower: str) -> int:
    """Return how many of something of `each` numbers the budget buys.

    Args:
        numbers: the budget.
        each: of one.
        what: is bought.
        lower: what options to lower where it is too dear.
    """
    if numbers < each:
        raise InputError(
            f"{what} takes {each} numbers, and the budget of the poster has {numbers}.",
            expected="a canvas that its budget can draw.",
            next=f"lower {lower}, or raise --ipc.",
        )
    return numbers // each


def _factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Split matrices (..., a, b) into (..., a, rank) and (..., rank, b), as near as can be."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[..., :rank].sqrt()
    return left[..., :rank] * root[..., None, :], root[..., :, None] * right[..., :rank, :]
