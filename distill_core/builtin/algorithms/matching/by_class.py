"""What the matching methods share: classes of real images and of soft labels, augmentation by
class, outer SGD, and how networks are trained on the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from distill_core.builtin.algorithms.outer_groups import groups_with_rates
from distill_core.plugin import (
    Augmentation,
    Draw,
    InputError,
    Recipe,
    Split,
    Streams,
    all_to_device,
)

_LEAST_MASS = 1e-6


def class_shares(labels: Tensor, threshold: float) -> Tensor:
    """Return the weight of every item in the mean of every class.

    Args:
        labels: (n, K), not negative; carries the gradient.
        threshold: smaller shares of a class count as none.

    Returns:
        (n, K): a column sums to 1, or is zero where no item has a share of the class. For
        one-hot labels, one over the number of items for those of the class.

    >>> class_shares(torch.tensor([[0.75, 0.25, 0.0], [0.25, 0.74, 0.01]]), 0.02)[:, [0, 2]]
    tensor([[0.7500, 0.0000],
            [0.2500, 0.0000]])
    """
    kept = torch.where(labels > threshold, labels, 0)
    mass = kept.sum(0)
    return torch.where(mass >= _LEAST_MASS, kept / mass.clamp_min(_LEAST_MASS), 0)


class RealClasses:
    """The real images of each class.

    Args:
        split: real images and their labels.
        num_classes: K.
    """

    def __init__(self, split: Split, num_classes: int) -> None:
        labels = split.labels.cpu()
        self._members = [(labels == label).nonzero().flatten() for label in range(num_classes)]
        self._device = split.device

    def draw(self, labels: Sequence[int], size: int, *, generator: Generator) -> list[Tensor]:
        """Draw the numbers of images of each class, class by class: on the device, in one copy.

        Args:
            labels: classes.
            size: images of each, without replacement; all where there are fewer.
            generator: the source of randomness, on the CPU.
        """
        drawn = []
        for label in labels:
            members = self._members[label]
            if size < len(members):
                members = members[torch.randperm(len(members), generator=generator)[:size]]
            drawn.append(members)
        return all_to_device(drawn, self._device)


def draw_classes(num_classes: int, size: int | None, *, generator: Generator) -> list[int]:
    """Draw the classes of an outer step: `size` different ones, in order; all if None."""
    if size is None or size >= num_classes:
        return list(range(num_classes))
    chosen: list[int] = torch.randperm(num_classes, generator=generator)[:size].tolist()
    return sorted(chosen)


def draw_siamese(
    augmentation: Augmentation,
    hw: tuple[int, int],
    num: int,
    *,
    per_class: bool,
    rng: Streams,
    device: torch.device,
) -> list[Draw]:
    """Draw the augmentation of each of `num` classes, of one image: see `Draw.shared`.

    Their values are on the device, where they are used for real and for synthetic images.
    """
    draws = [
        augmentation.draw(1, hw, generator=rng["augment"]) for _ in range(num if per_class else 1)
    ]
    values = all_to_device([draw.values for draw in draws], device)
    draws = [replace(draw, values=there) for draw, there in zip(draws, values, strict=True)]
    return draws if per_class else draws * num


def matched_classes(sharing: Tensor, classes: Sequence[int]) -> list[int]:
    """Return those of `classes` that an item has a share of.

    Args:
        sharing: (n, K) bool on the CPU: which shares, from `class_shares`, are not zero.
        classes: those of this outer step.

    Raises:
        InputError: no class at all has an item; no image would get a hypergradient.
    """
    present = sharing.any(0).tolist()
    if not any(present):
        raise InputError(
            "no training image has a share of a class above option algo.threshold.",
            expected="labels that give some class more than that.",
            next="lower -o algo.threshold, or pass --labeler onehot, whose labels are whole.",
        )
    return [label for label in classes if present[label]]


def outer_sgd(
    groups: Mapping[str, Sequence[nn.Parameter]], rates: Mapping[str, float], *, momentum: float
) -> Optimizer:
    """Return SGD over the groups that have a rate.

    Raises:
        InputError: none of these groups has a parameter.
    """
    found = groups_with_rates(groups, rates)
    if not found:
        learned = " and ".join({"data": "pixels", "labels": "labels"}[name] for name in rates)
        raise InputError(
            f"there is nothing to learn: this algorithm trains {learned}, which are fixed.",
            expected="a representation with parameters.",
            next="choose another --repr, or --algo none to judge it as it is.",
        )
    return torch.optim.SGD(found, lr=1.0, momentum=momentum)


def matching_recipe(augment: str) -> Recipe:
    """Return the training of the published evaluation of DC, DSA and DM.

    300 epochs, or 1000 where images are augmented, counted as steps: the same where a batch of
    256 holds all images. `evaluate.protocol=dc` counts epochs for larger sets too.
    """
    return Recipe(
        optimizer="sgd",
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="step",
        batch_size=256,
        steps=300 if augment == "none" else 1000,
        augment="none" if augment == "none" else "dsa",
    )
