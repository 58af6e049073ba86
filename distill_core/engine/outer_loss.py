"""The outer loss of most algorithms: the loss of a trained network on real images."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from distill_core.contracts.data import Split
from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.synthetic import Batch
from distill_core.contracts.transfer import read, to_device
from distill_core.data.augment import Augmentation, Draw


class OuterLoss(NamedTuple):
    """The outer loss of one real batch, the accuracy on it, and the gradient in theta (P,)."""

    loss: float
    accuracy: float
    cotangent: Tensor


class RealSums(NamedTuple):
    """What `OuterLoss` is made from, on the device; the host has not waited for it.

    Attributes:
        loss: the mean loss, a scalar.
        correct: number of images classified correctly, a scalar.
        cotangent: (P,) the gradient of the loss in theta.
    """

    loss: Tensor
    correct: Tensor
    cotangent: Tensor


def real_loss(
    loss: InnerLoss, theta: Tensor, split: Split, index: Tensor, draw: Draw, *, chunk: int
) -> OuterLoss:
    """Return the mean cross-entropy on real images, with the memory of one chunk.

    Args:
        loss: the network and its derivatives.
        theta: (P,).
        split: the real images.
        index: (N,) which of them, from `Split.draw`.
        draw: their augmentation.
        chunk: most images at a time; the sizes of the chunks differ by at most one image. The
            result is the same up to rounding, unless the network normalises over batches: its
            statistics are those of a chunk.
    """
    sums = real_sums(loss, theta, split, index, draw, chunk=chunk)
    total, correct = read(sums.loss, sums.correct)
    return OuterLoss(total, correct / len(index), sums.cotangent)


def real_sums(
    loss: InnerLoss, theta: Tensor, split: Split, index: Tensor, draw: Draw, *, chunk: int
) -> RealSums:
    """Compute what `real_loss` computes, without waiting for the device."""
    size = len(index)
    draw = replace(draw, values=to_device(draw.values, theta.device))  # once, not in every chunk
    cotangent = torch.zeros_like(theta)
    total = torch.zeros((), device=theta.device, dtype=theta.dtype)
    correct = torch.zeros((), device=theta.device, dtype=torch.int64)
    parts = _equal_parts(size, chunk)
    for part, images in zip(parts, split.stream(index[part] for part in parts), strict=True):
        labels = split.labels[index[part]]
        augmented = Augmentation.apply(images, draw[part])
        share = len(labels) / size
        targets = functional.one_hot(labels, loss.model.num_classes).to(theta.dtype)
        found = loss.evaluate(theta, Batch(augmented, targets))
        cotangent += share * found.gradient
        total += share * found.loss
        correct += (found.logits.argmax(1) == labels).sum()
    return RealSums(total, correct, cotangent)


def _equal_parts(size: int, most: int) -> list[slice]:
    """Cut `size` images into the fewest parts of at most `most`, of nearly equal sizes.

    A last part of a single image would have no batch statistics.
    """
    count = -(-size // most)
    return [slice(*ends) for ends in pairwise(size * part // count for part in range(count + 1))]
