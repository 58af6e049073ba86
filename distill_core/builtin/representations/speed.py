"""Representation `speed`: images decoded from a few tokens that all of them share.

An image is a sparse map, which says how much of which token goes to which patch. Tokens, maps and
the small network that turns mixed tokens into pixels are all stored and all counted.

Source: Wei et al. 2023, Sparse Parameterization for Epitomic Dataset Distillation (NeurIPS).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from distill_core.builtin.representations.decoded import Decoded, as_many, uniform
from distill_core.builtin.representations.images import image_layout
from distill_core.builtin.representations.options import SpeedOptions
from distill_core.plugin import (
    DataSpec,
    InputError,
    Placement,
    RealData,
    draw_real,
)

START_STD = 0.2  # of tokens and maps; published code
FIT_LR = 1e-2
NORM_EPS = 1e-6  # published code
MOST_PLACES = 2**15  # of a map: places are stored in 16 bits


class Linear(nn.Module):
    """A linear layer that starts at zero: PyTorch's own draws from the global state.

    Args:
        inputs: numbers of a row that it takes.
        outputs: numbers of a row that it gives.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (..., inputs) to (..., outputs)."""
        return functional.linear(rows, self.weight, self.bias)


class Block(nn.Module):
    """Adds mixed tokens to patches, then what a small network makes of them; both normalised.

    z = LN(z + proj(concat_h P_h S_h)), z = LN(z + MLP(z)); hidden layers are as wide as a token.

    Args:
        dim: size D of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj, self.hidden, self.out = (Linear(dim, dim) for _ in range(3))
        self.norm_mixed, self.norm = (nn.LayerNorm(dim, eps=NORM_EPS) for _ in range(2))

    def forward(self, patches: Tensor, mixed: Tensor) -> Tensor:
        """Return the next patches (n, L, D) from patches and mixed tokens (n, L, D)."""
        patches = self.norm_mixed(patches + self.proj(mixed))
        change = self.out(functional.gelu(self.hidden(patches)))
        made: Tensor = self.norm(patches + change)
        return made


class Speed(Decoded):
    """As many sparse maps of every class as tokens and decoder leave room for.

    Tokens S are (K, D), split into heads of D / heads columns each. An image has for each head a
    map P_h (L, K) from tokens to its L patches, of which the k entries that are largest are stored
    with their places, two of them in the room of one number. Each item is a canvas and a cell of
    its own, class by class, as in `images`.

    Args:
        options: settings.
        spec: facts about the data.
        ipc: budget in images per class; None for 1.

    Raises:
        InputError: patches do not tile an image, maps have fewer entries than are kept of them, or
            the budget leaves no room for an image of every class.
    """

    places: Tensor

    def __init__(self, options: SpeedOptions, *, spec: DataSpec, ipc: float | None = None) -> None:
        super().__init__()
        self.options = options
        channels, height, width = spec.image_shape
        self._grid = _patch_grid(options, (height, width))
        self.layout = image_layout(spec, images_per_class(options, spec, 1 if ipc is None else ipc))
        dim, kept = options.dim, options.kept
        shape = (self.layout.num_canvases, options.heads)
        self.tokens = nn.Parameter(torch.zeros(options.tokens, dim))
        self.entries = nn.Parameter(torch.zeros(*shape, kept))
        self.blocks = nn.ModuleList(Block(dim) for _ in range(options.blocks))
        self.pixels = Linear(dim, channels * options.patch**2)
        # 16 bits a place, two in an int32; the last half is not used where their number is odd.
        packed = torch.zeros(*shape, _packed(kept), dtype=torch.int32)
        self.register_buffer("places", packed)

    @torch.no_grad()
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Draw all numbers; choose the places of each map, fitting it to a real image if asked."""
        self.tokens.copy_(START_STD * torch.randn(self.tokens.shape, generator=generator))
        for module in self.modules():
            if isinstance(module, Linear):
                bound = math.sqrt(6 / sum(module.weight.shape))  # Xavier's
                module.weight.copy_(uniform(module.weight, generator) * bound)
                module.bias.zero_()
            elif isinstance(module, nn.LayerNorm):
                module.weight.fill_(1.0)
                module.bias.zero_()
        shape = (*self.entries.shape[:2], math.prod(self._grid) * len(self.tokens))
        maps = START_STD * torch.randn(shape, generator=generator)
        goal = None
        if self.options.fit_steps:
            goal = draw_real(real, placement.cell_class, generator=generator).float()
            maps = self._fit_whole(maps, goal, steps=self.options.fit_steps // 2)
        places = maps.abs().topk(self.entries.shape[2]).indices.sort().values
        self.entries.copy_(maps.gather(2, places))
        self.places.view(torch.int16)[..., : places.shape[2]] = places.short()
        if goal is not None:
            self.fit(goal, lr=FIT_LR, steps=self.options.fit_steps - self.options.fit_steps // 2)

    def decode(self, which: Tensor | slice) -> Tensor:
        """Put the entries of items at their places, and decode the maps: (n, C, h, w)."""
        entries = self.entries[which]
        places = self.places[which].view(torch.int16)[..., : entries.shape[2]].long()
        maps = entries.new_zeros(*entries.shape[:2], math.prod(self._grid) * len(self.tokens))
        return self._images(maps.scatter(2, places, entries))

    def _images(self, maps: Tensor) -> Tensor:
        """Decode whole maps (n, heads, L K) to images (n, C, h, w)."""
        (count, heads, _), (rows, cols), side = maps.shape, self._grid, self.options.patch
        tokens = self.tokens.view(len(self.tokens), heads, -1).transpose(0, 1)
        mixed = maps.view(count, heads, rows * cols, -1) @ tokens
        mixed = mixed.transpose(1, 2).flatten(2)
        patches = torch.zeros_like(mixed)
        for block in self.blocks:
            patches = block(patches, mixed)
        pixels = self.pixels(patches).view(count, rows, cols, -1, side, side)
        images: Tensor = pixels.permute(0, 3, 1, 4, 2, 5).reshape(
            count, -1, rows * side, cols * side
        )
        return images

    @torch.enable_grad()
    def _fit_whole(self, maps: Tensor, goal: Tensor, *, steps: int) -> Tensor:
        """Fit tokens, decoder and whole maps to images, so that it is known which entries count."""
        maps = maps.clone().requires_grad_()
        learned = [maps, *(each for each in self.parameters() if each is not self.entries)]
        optimizer = torch.optim.Adam(learned, lr=FIT_LR)
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            error = (self._images(maps) - goal).square().flatten(1).mean(1).sum()
            (error + self.options.sparsity * maps.abs().sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return maps.detach()


def images_per_class(options: SpeedOptions, spec: DataSpec, ipc: float) -> int:
    """Return how many sparse maps for each class fit in the budget beside tokens and decoder.

    Raises:
        InputError: not one.

    >>> cifar10 = DataSpec("cifar10", tuple("0123456789"), (3, 32, 32), ())
    >>> images_per_class(SpeedOptions(), cifar10, 1)
    17
    """
    image, classes = math.prod(spec.image_shape), spec.num_classes
    shared = shared_numbers(options, spec)
    each = options.heads * (options.kept + _packed(options.kept))
    least = (shared + classes * each) / (classes * image)
    return as_many(
        (ipc * classes * image - shared) / (classes * each),
        InputError(
            f"tokens and decoder, {shared} numbers, leave no room for images at --ipc {ipc:g}.",
            expected=f"at least {least:.4g} images per class, for one image of each.",
            next="pass a smaller -o repr.dim, fewer -o repr.tokens or -o repr.kept, or a larger "
            "--ipc.",
        ),
    )


def shared_numbers(options: SpeedOptions, spec: DataSpec) -> int:
    """Return how many numbers tokens and decoder have."""
    dim = options.dim
    block = 3 * dim * dim + 7 * dim
    pixels = spec.image_shape[0] * options.patch**2 * (dim + 1)
    return options.tokens * dim + options.blocks * block + pixels


def _packed(kept: int) -> int:
    return -(-kept // 2)


def _patch_grid(options: SpeedOptions, hw: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of patches of an image."""
    rows, cols = (side // options.patch for side in hw)
    if any(side % options.patch for side in hw):
        raise InputError(
            f"images of {hw[0]}x{hw[1]} pixels cannot be tiled with patches of {options.patch}.",
            expected="height and width that are multiples of repr.patch.",
            next="choose another -o repr.patch.",
        )
    entries = rows * cols * options.tokens
    what = f"a map from {options.tokens} tokens to {rows * cols} patches has {entries} entries"
    if entries > MOST_PLACES:
        raise InputError(
            f"{what}.",
            expected=f"at most {MOST_PLACES}: their places are stored in 16 bits.",
            next="choose fewer -o repr.tokens or a larger -o repr.patch.",
        )
    if options.kept > entries:
        raise InputError(
            f"{what}, and repr.kept = {options.kept} of them are to be stored.",
            expected=f"at most {entries}.",
            next="choose a smaller -o repr.kept, more -o repr.tokens or a smaller -o repr.patch.",
        )
    return rows, cols
