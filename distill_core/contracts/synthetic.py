"""The synthetic dataset: everything an algorithm sees of representation and labeler."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from distill_core.contracts.components import InStoredType, Labeler, Representation
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Boxes, Placement
from registry import InputError


class Batch(NamedTuple):
    """Training images (n, C, h, w) and their labels (n, K)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Budget:
    """What a synthetic dataset costs to store, counted from its state.

    Attributes:
        pixels: stored numbers of the representation, divided by the number of channels.
        ipc: pixels in units of images per class.
        label_numbers: stored numbers of the labeler.
        label_rows: label numbers in units of one soft label per class (K * K).
    """

    pixels: float
    ipc: float
    label_numbers: int
    label_rows: float

    def as_dict(self) -> dict[str, float]:
        """Return the fields as a plain dictionary."""
        return asdict(self)

    def __str__(self) -> str:
        rows = "soft label" if self.label_rows == 1 else "soft labels"
        return (
            f"{self.pixels:g} pixels ({self.ipc:.3f} IPC), "
            f"{self.label_numbers} label numbers ({self.label_rows:g} {rows} per class)"
        )


class SyntheticDataset(nn.Module):
    """A representation and a labeler, joined by a placement.

    Args:
        representation: owns the pixels (group "data").
        labeler: owns the labels (group "labels").
        placement: the layout and the class grid.
        spec: facts about the real data.
    """

    def __init__(
        self,
        representation: Representation,
        labeler: Labeler,
        *,
        placement: Placement,
        spec: DataSpec,
    ) -> None:
        super().__init__()
        self.representation = representation
        self.labeler = labeler
        self.placement = placement
        self.spec = spec

    def __len__(self) -> int:
        return len(self.placement.layout.items)

    def at(self, boxes: Boxes) -> Batch:
        """Return images and labels at `boxes`; differentiable and deterministic."""
        images = self.representation.expand(boxes)
        return Batch(images, self.labeler.labels(boxes, images))

    def items(self, index: Tensor) -> Boxes:
        """Return the boxes of the items `index` (n,), without drawing."""
        return self.placement.layout.items[index]

    def all(self) -> Batch:
        """Return every item."""
        return self.at(self.placement.layout.items)

    def draw(
        self,
        size: int,
        *,
        generator: Generator,
        balanced: bool = False,
        weights: Tensor | None = None,
    ) -> Boxes:
        """Draw items without replacement, uniformly; all, in order, if `size` >= n.

        Args:
            size: number of items.
            generator: the source of randomness.
            balanced: draw an item with probability proportional to sum_c y_c / m_c, where m_c is
                the total weight of class c in all labels. Compensates for the few patches at the
                border. No effect if all items are drawn.
            weights: (n,) these probabilities, from `balance`, instead of `balanced`: several draws
                need to compute them only once.
        """
        n = len(self)
        if size < n and balanced and weights is None:
            weights = self.balance()
        if size >= n:
            index = torch.arange(n)
        elif weights is not None:
            index = torch.multinomial(weights, size, generator=generator)
        else:
            index = torch.randperm(n, generator=generator)[:size]
        return self.representation.draw(index, generator=generator)

    def batches(self, size: int, *, generator: Generator) -> Iterator[Boxes]:
        """Yield chunks of shuffled passes over all items, endlessly."""
        n = len(self)
        while True:
            order = torch.randperm(n, generator=generator)
            for start in range(0, n, size):
                yield self.representation.draw(order[start : start + size], generator=generator)

    @torch.no_grad()
    def balance(self) -> Tensor:
        """Return the relative probability of each item in a balanced draw: (n,) on the CPU."""
        labels = self.all().labels.cpu()
        mass = labels.sum(0)
        return (labels / mass.clamp_min(1e-12) * (mass > 0)).sum(1)

    @torch.enable_grad()
    def coverage(self) -> list[Tensor]:
        """Count how many items touch each number of group "data", parameter by parameter.

        Returns:
            The gradient of the sum of all items, one tensor per parameter of `groups()["data"]`; 1
            everywhere if every item has its own pixels. It is a count if pixels are stored
            directly, or if items are means of them. Learned scales have the mean, and numbers
            outside of learned levels, which get no gradient, have 0.
        """
        parameters = self.groups().get("data", [])
        if not parameters:
            return []
        total = self.representation.expand(self.placement.layout.items).sum()
        found = list(
            torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
        )
        if not isinstance(self.representation, InStoredType):
            return found
        levels = set(self.representation.levels.values())
        numbers = [each for p, each in zip(parameters, found, strict=True) if p not in levels]
        mean = sum(each.sum() for each in numbers) / max(1, sum(each.numel() for each in numbers))
        return [
            torch.full_like(p, float(mean)) if p in levels else each
            for p, each in zip(parameters, found, strict=True)
        ]

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained parameters by group; groups without parameters are omitted."""
        found = {
            "data": [p for p in self.representation.parameters() if p.requires_grad],
            "labels": [p for p in self.labeler.parameters() if p.requires_grad],
        }
        return {name: parameters for name, parameters in found.items() if parameters}

    @torch.no_grad()
    def project(self) -> None:
        """Put all parameters back into their feasible sets, in place."""
        self.representation.project()
        self.labeler.project()

    def budget(self) -> Budget:
        """Count what is stored: parameters and persistent buffers."""
        channels, h, w = self.spec.image_shape
        num_classes = self.spec.num_classes
        pixels = _stored(self.representation) / channels
        label_numbers = _stored(self.labeler)
        return Budget(
            pixels=pixels,
            ipc=pixels / (num_classes * h * w),
            label_numbers=label_numbers,
            label_rows=label_numbers / num_classes**2,
        )


def check_budget(budget: Budget, asked: float | None) -> None:
    """Refuse a representation that stores more pixels than the user allowed.

    Raises:
        InputError: its IPC is above `asked`.
    """
    if asked is not None and budget.ipc > asked * (1 + 1e-9):
        raise InputError(
            f"the representation stores {budget.ipc:.4f} images per class.",
            expected=f"at most the budget of --ipc {asked:g}.",
            next=f"raise --ipc to {_up(budget.ipc)}, or store less (a poster: "
            "-o repr.size=HEIGHTxWIDTH; `distill show representation NAME` lists the options).",
        )


def _stored(module: nn.Module) -> int:
    module = module.inner if isinstance(module, InStoredType) else module
    return sum(tensor.numel() for tensor in module.state_dict().values())


def _up(ipc: float) -> str:
    """Write a number with at most four decimals, rounded up."""
    return f"{math.ceil(ipc * 1e4) / 1e4:.10g}"
