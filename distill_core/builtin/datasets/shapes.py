"""Generated pictures of coloured, patterned shapes: any number of classes, any small size.

A class is a shape, a hue and a pattern; place, scale, brightness, background and noise vary. All
shapes and patterns are mirror images of themselves, so that a flip keeps the class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from distill_core.builtin.datasets.options import ShapesOptions
from distill_core.plugin import DataSpec, RawData, Room, Sources, prefetched, seeded

SHAPES = ("disc", "square", "triangle", "ring", "cross")
PATTERNS = ("plain", "banded", "striped", "checked")
HUES = ("red", "amber", "lime", "green", "azure", "blue", "pink")
AUGMENTATIONS = ("flip", "rotate", "scale", "crop", "cutout")  # a hue tells classes apart
DRAWING = 1  # raised when the same settings come to give other pictures
CHUNK = 1024  # images whose numbers are drawn at once
CACHED = 16  # of them painted at once, so that what is computed stays in the processor's cache


class Drawn(NamedTuple):
    """What varies between n pictures: shape and pattern (n, 2), and the rest (n, ., ., .)."""

    kind: Tensor
    hue: Tensor
    radius: Tensor
    below: Tensor
    right: Tensor
    light: Tensor
    ground: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Shapes:
    """Pictures 3 x size x size; the same for the same settings."""

    options: ShapesOptions

    def outline(self) -> DataSpec:
        """Return what is known before loading."""
        side = self.options.size
        names = class_names(self.options.classes)
        return DataSpec("shapes", names, (3, side, side), AUGMENTATIONS)

    def load(self) -> RawData:
        """Draw all images."""
        return self.load_into(Room())

    def sources(self) -> Sources:
        """Return that nothing is read."""
        return Sources({}, f"{DRAWING} {self.options.model_dump_json()}")

    def load_into(self, room: Room) -> RawData:
        """Draw all images into memory that is given."""
        train_images, train_labels = self._part("train", self.options.train_per_class, room)
        test_images, test_labels = self._part("test", self.options.test_per_class, room)
        return RawData(
            spec=self.outline(),
            train_images=train_images,
            train_labels=train_labels,
            test_images=test_images,
            test_labels=test_labels,
        )

    def _part(self, part: str, per_class: int, room: Room) -> tuple[Tensor, Tensor]:
        labels = torch.arange(self.options.classes).repeat(per_class)
        generator = seeded(self.options.seed, "shapes", part)
        traits, num_hues = _traits(self.options.classes), _num_hues(self.options.classes)
        side = self.options.size
        images = room.empty((len(labels), 3, side, side))
        chunks = [slice(k, k + CHUNK) for k in range(0, len(labels), CHUNK)]
        noise = torch.empty(2, min(CHUNK, len(labels)), 3, side, side)

        def draw(k: int) -> Drawn:
            of = traits[labels[chunks[k]]]
            return _drawn(of, num_hues, noise[k % 2, : len(of)], generator)

        # The next numbers are drawn, in their order, while pictures of the last ones are painted.
        for k, drawn in enumerate(prefetched(draw, range(len(chunks)), name="draws-numbers")):
            _paint(drawn, images[chunks[k]])
            room.filled(len(images[chunks[k]]))
        return images, labels


def class_names(num_classes: int) -> tuple[str, ...]:
    """Return a name for each class, for example "red_plain_disc".

    Hues have words while seven are enough, and degrees on the colour wheel beyond that.
    """
    num_hues = _num_hues(num_classes)
    hues = (
        HUES if num_hues == len(HUES) else [f"hue{360 * k / num_hues:.1f}" for k in range(num_hues)]
    )
    return tuple(
        f"{hues[hue]}_{PATTERNS[pattern]}_{SHAPES[shape]}"
        for shape, pattern, hue in _traits(num_classes).tolist()
    )


def _traits(num_classes: int) -> Tensor:
    """(K, 3) shape, pattern and hue of each class.

    The three counts have no common factor, so that all combinations come up before one returns
    (Chinese remainder theorem), and neighbouring classes differ in all three.
    """
    k = torch.arange(num_classes)
    return torch.stack([k % len(SHAPES), k % len(PATTERNS), k % _num_hues(num_classes)], dim=1)


def _num_hues(num_classes: int) -> int:
    others = len(SHAPES) * len(PATTERNS)
    num_hues = max(len(HUES), math.ceil(num_classes / others))
    while math.gcd(num_hues, others) > 1:
        num_hues += 1
    return num_hues


def _drawn(traits: Tensor, num_hues: int, noise: Tensor, generator: Generator) -> Drawn:
    """What varies between pictures of traits (n, 3), always drawn in this order.

    noise: (n, 3, size, size), which is filled.
    """
    n, size = len(traits), noise.shape[-1]

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(n, channels, 1, 1, generator=generator)

    radius = uniform(0.28, 0.42) * size
    reach = size / 2 - radius  # so far can the centre move
    below, right = uniform(-1, 1) * reach, uniform(-1, 1) * reach
    light = uniform(0.7, 1)
    ground = uniform(0.1, 0.5) + uniform(-0.1, 0.1, channels=3)
    noise.normal_(generator=generator)
    hue = _hue(traits[:, 2] / num_hues)[:, :, None, None]
    return Drawn(traits[:, :2], hue, radius, below, right, light, ground, noise)


def _paint(drawn: Drawn, into: Tensor) -> None:
    """Paint pictures into (n, 3, size, size) uint8, those of one shape and pattern together."""
    places = into.numpy()  # which copies whole pictures, where PyTorch copies number by number
    room = torch.empty(2, CACHED, *into.shape[1:])
    rounded = np.empty(room.shape[1:], np.uint8)
    for kind in sorted({(shape, pattern) for shape, pattern in drawn.kind.tolist()}):
        found = (drawn.kind == torch.tensor(kind)).all(1).nonzero().flatten()
        for start in range(0, len(found), CACHED):
            some = found[start : start + CACHED]
            n = len(some)
            picture, noise = room[:, :n]
            torch.index_select(drawn.noise, 0, some, out=noise)
            each = [part[some] for part in drawn[:-1]]
            _colour(picture, *kind, Drawn._make([*each, noise]))
            np.rint(picture.numpy(), out=rounded[:n], casting="unsafe")  # to even, as PyTorch
            places[some.numpy()] = rounded[:n]


def _colour(picture: Tensor, shape: int, pattern: int, drawn: Drawn) -> None:
    """Paint (n, 3, size, size) from 0 to 255; the noise is used up."""
    _, hue, radius, below, right, light, ground, noise = drawn
    size = noise.shape[-1]
    pixels = torch.arange(size) + 0.5 - size / 2
    y, x = (pixels[:, None] - below) / radius, (pixels - right) / radius
    # One pixel of soft border.
    inside = (0.5 - _distance(shape, y, x) * radius).clamp(0, 1)
    shade = light * (0.35 + 0.65 * _pattern(pattern, y, x))
    torch.mul(shade.expand_as(inside).contiguous(), hue, out=picture)
    torch.lerp(ground, picture, inside, out=picture)
    picture.add_(noise.mul_(0.05)).clamp_(0, 1).mul_(255)


def _distance(shape: int, y: Tensor, x: Tensor) -> Tensor:
    """(n, 1, size, size) distance from a shape's border in radii, negative inside.

    y: (n, 1, size, 1) and x: (n, 1, 1, size), in radii from the centre, y downwards.
    """
    x, high = x.abs(), y.abs()
    match SHAPES[shape]:
        case "disc":
            return torch.sqrt(x**2 + y**2) - 1
        case "square":
            return torch.maximum(x, high) - 0.85
        case "triangle":
            return torch.maximum(y - 0.7, (2 * x - y - 0.9) / math.sqrt(5))
        case "ring":
            return (torch.sqrt(x**2 + y**2) - 0.75).abs() - 0.25
        case _:  # a cross
            flat, tall = torch.maximum(x - 1, high - 0.33), torch.maximum(high - 1, x - 0.33)
            return torch.minimum(flat, tall)


def _pattern(pattern: int, y: Tensor, x: Tensor) -> Tensor:
    """0 where dark, 1 where bright, to be broadcast to (n, 1, size, size).

    Bands are as wide as half the radius. y and x as above.
    """
    match PATTERNS[pattern]:
        case "plain":
            return torch.ones_like(y)
        case "banded":
            return _stripes(y)
        case "striped":
            return _stripes(x)
        case _:  # checked
            return 1 - (_stripes(y) - _stripes(x)).abs()


def _stripes(along: Tensor) -> Tensor:
    return (torch.cos(2 * math.pi * along) > 0).to(along.dtype)


def _hue(turn: Tensor) -> Tensor:
    """(n, 3) RGB of full saturation for hues given as turns of the colour wheel, 0 is red."""
    offset = torch.tensor([0.0, 2 / 3, 1 / 3])
    angle = ((turn[:, None] + offset) % 1) * 6
    return ((angle - 3).abs() - 1).clamp(0, 1)
