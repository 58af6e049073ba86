"""Differentiable augmentation in two halves: draw parameters once, apply them as often as needed.

A `Draw` is a small value made on the CPU, so that an inner step can be replayed, and a run draws
the same on every device. Applying it is differentiable in the images to any order. Vacated pixels
are zero in whitened space, where training happens.

Source: algorithms of Zhao & Bilen 2021 (DSA) and Feng et al. 2024 (RaT-BPTT).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from distill_core.data.warp import warp
from registry import UnknownNameError

_ROTATE_DEGREES = 15.0
_SCALE = 1.2
_CROP = 0.125
_CUTOUT = 0.5
_BRIGHTNESS, _SATURATION, _CONTRAST = 1.0, 2.0, 0.5

MOST_VALUES = 3  # parameters of an operation for one image

STRATEGIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "flip_rotate": ("flip", "rotate"),
    "dsa": ("color", "crop", "cutout", "flip", "scale", "rotate"),
}


@dataclass(frozen=True)
class Draw:
    """One drawn augmentation of a batch.

    Attributes:
        operation: the one operation applied to the whole batch; "" for none.
        values: (n, p) its parameters, one row per image, on the CPU.
    """

    operation: str
    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> Draw:
        return Draw(self.operation, self.values[part])

    def shared(self, num: int) -> Draw:
        """Return a draw that applies the parameters of its first image to `num` images.

        Sharing it augments real and synthetic images alike (siamese augmentation, Zhao & Bilen
        2021).
        """
        return Draw(self.operation, self.values[:1].expand(num, -1))


@dataclass(frozen=True)
class Augmentation:
    """A choice of operations; every draw takes one of them, all equally likely.

    Attributes:
        operations: names, from "color", "crop", "cutout", "flip", "rotate", "scale".
    """

    operations: tuple[str, ...]

    @staticmethod
    def named(strategy: str, allowed: tuple[str, ...]) -> Augmentation:
        """Return a published strategy without the operations that a dataset forbids.

        Args:
            strategy: "none"; "flip_rotate" (flip or rotate the batch); "dsa" (one of six).
            allowed: operations that keep the labels, `DataSpec.augmentations`.

        Raises:
            UnknownNameError: there is no such strategy.

        >>> Augmentation.named("flip_rotate", ("rotate", "crop"))
        Augmentation(operations=('rotate',))
        """
        if strategy not in STRATEGIES:
            raise UnknownNameError(
                "augmentation", strategy, known=STRATEGIES, next="pass -o algo.augment=NAME."
            )
        return Augmentation(tuple(name for name in STRATEGIES[strategy] if name in allowed))

    def draw(self, num: int, hw: tuple[int, int], *, generator: Generator) -> Draw:
        """Draw one operation, and its parameters for every image.

        Args:
            num: number of images.
            hw: their height and width, pixels.
            generator: the source of randomness.
        """
        if not self.operations:
            return Draw("", torch.zeros(num, 0))
        chosen = int(torch.randint(len(self.operations), (), generator=generator))
        name = self.operations[chosen]
        return Draw(name, _OPERATIONS[name].draw(num, hw, generator))

    @staticmethod
    def apply(images: Tensor, draw: Draw) -> Tensor:
        """Return the augmented images (n, C, h, w), in the same dtype and on the same device.

        Args:
            images: (n, C, h, w), carries the gradient.
            draw: for n images of this size.
        """
        assert len(images) == len(draw), f"{len(images)} images, draw for {len(draw)}"
        if not draw.operation:
            return images
        values = draw.values.to(device=images.device, dtype=images.dtype)
        return _OPERATIONS[draw.operation].apply(images, values)


class _Operation(NamedTuple):
    """Draws parameters (n, p) for n images of a size, and applies them to images."""

    draw: Callable[[int, tuple[int, int], Generator], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]


def _draw_flip(num: int, hw: tuple[int, int], generator: Generator) -> Tensor:
    return torch.randint(2, (num, 1), generator=generator)


def _flip(images: Tensor, values: Tensor) -> Tensor:
    return torch.where(values[:, :, None, None] > 0, images.flip(3), images)


def _draw_rotate(num: int, hw: tuple[int, int], generator: Generator) -> Tensor:
    return (2 * torch.rand(num, 1, generator=generator) - 1) * _ROTATE_DEGREES


def _rotate(images: Tensor, values: Tensor) -> Tensor:
    angle = torch.deg2rad(values[:, 0])
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack([cos, sin, -sin, cos], 1).view(-1, 2, 2)
    largest = math.radians(_ROTATE_DEGREES)
    stretch = math.cos(largest) + math.sin(largest)
    return warp(images, matrix, torch.zeros_like(matrix[:, 0]), stretch=stretch)


def _draw_scale(num: int, hw: tuple[int, int], generator: Generator) -> Tensor:
    lowest = 1 / _SCALE
    return lowest + (_SCALE - lowest) * torch.rand(num, 2, generator=generator)


def _scale(images: Tensor, values: Tensor) -> Tensor:
    return warp(images, torch.diag_embed(values), torch.zeros_like(values), stretch=_SCALE)


def _draw_crop(num: int, hw: tuple[int, int], generator: Generator) -> Tensor:
    return torch.stack([_draw_shift(num, side, generator) for side in hw], 1)


def _draw_shift(num: int, side: int, generator: Generator) -> Tensor:
    most = int(side * _CROP + 0.5)
    return torch.randint(-most, most + 1, (num,), generator=generator)


def _crop(images: Tensor, values: Tensor) -> Tensor:
    matrix = torch.eye(2, dtype=values.dtype, device=values.device).expand(len(values), 2, 2)
    return warp(images, matrix, values, stretch=1.0)


def _draw_cutout(num: int, hw: tuple[int, int], generator: Generator) -> Tensor:
    return torch.stack([_draw_hole(num, side, generator) for side in hw], 1)


def _draw_hole(num: int, side: int, generator: Generator) -> Tensor:
    """(num,) the first pixel of the hole along one side; it may lie outside."""
    size = int(side * _CUTOUT + 0.5)
    return torch.randint(side + 1 - size % 2, (num,), generator=generator) - size // 2


def _cutout(images: Tensor, values: Tensor) -> Tensor:
    inside = []
    for axis, side in enumerate(images.shape[2:]):
        place = torch.arange(side, device=images.device) - values[:, axis, None]
        inside.append((place >= 0) & (place < int(side * _CUTOUT + 0.5)))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(hole, 0)


def _draw_color(num: int, hw: tuple[int, int], generator: Generator) -> Tensor:
    return torch.rand(num, 3, generator=generator)


def _color(images: Tensor, values: Tensor) -> Tensor:
    """Brightness, then saturation, then contrast, as in the DSA code."""
    bright, saturate, contrast = values[:, :, None, None, None].unbind(1)
    images = images + (bright - 0.5) * _BRIGHTNESS
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (saturate * _SATURATION) + grey
    level = images.mean((1, 2, 3), keepdim=True)
    return (images - level) * (contrast + _CONTRAST) + level


_OPERATIONS = {
    "color": _Operation(_draw_color, _color),
    "crop": _Operation(_draw_crop, _crop),
    "cutout": _Operation(_draw_cutout, _cutout),
    "flip": _Operation(_draw_flip, _flip),
    "rotate": _Operation(_draw_rotate, _rotate),
    "scale": _Operation(_draw_scale, _scale),
}
