"""What representations share whose items are images of their own, decoded from stored numbers."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Generator, Tensor

from distill_core.plugin import (
    Boxes,
    InputError,
    Representation,
    fit_images,
    gather_boxes,
    to_device,
)


class Decoded(Representation):
    """Each item is a canvas and a cell of its own; only those that are asked for are decoded."""

    @abstractmethod
    def decode(self, which: Tensor | slice) -> Tensor:
        """Return the images of the items `which`: (n, C, h, w), differentiable."""

    def expand(self, boxes: Boxes) -> Tensor:
        """Return the images at `boxes`: (n, C, h, w)."""
        device = next(self.parameters()).device
        images = self.decode(to_device(boxes.canvas, device))
        return gather_boxes(images, Boxes(torch.arange(len(boxes)), boxes.yxyx, boxes.item))

    def canvases(self) -> Tensor:
        """Return all images: (items, C, h, w)."""
        return self.decode(slice(None))

    def fit(self, goal: Tensor, *, lr: float, steps: int) -> None:
        """Fit each item to its image of `goal` (items, C, h, w): mean squared error, Adam."""
        fit_images(self, goal, lr=lr, steps=steps, render=self.canvases, project=self.project)


def as_many(number: float, refusal: InputError) -> int:
    """Return how many whole items of a class a budget buys.

    Args:
        number: items of a class that it pays for.
        refusal: raised if that is not one.
    """
    whole = math.floor(number + 1e-9)
    if whole < 1:
        raise refusal
    return whole


def uniform(like: Tensor, generator: Generator) -> Tensor:
    """Draw numbers from -1 to 1, as many as `like` has."""
    return 2 * torch.rand(like.shape, generator=generator) - 1
