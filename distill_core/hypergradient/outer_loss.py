"""The outer loss of most algorithms: how a trained network does on real images."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from distill_core.augment import Augmentation, Draw
from distill_core.data import Split
from distill_core.hypergradient.inner_loss import InnerLoss
from distill_core.synthetic import Batch
from distill_core.transfer import read, to_device


class OuterLoss(NamedTuple):
    """The outer loss of one real batch, the accuracy on it, and the gradient in theta (P,)."""

    loss: float
    accuracy: float
    cotangent: Tensor


class RealSums(NamedTuple):
    """What `OuterLoss` is made from, on the device: nobody has waited for it.

    Attributes:
        loss: the mean loss, a scalar.
        correct: how many images were told right, a scalar.
        cotangent: (P,) the gradient of the loss in theta.
    """

    loss: Tensor
    correct: Tensor
    cotangent: Tensor


def real_loss(
    loss: InnerLoss, theta: Tensor, split: Split, index: Tensor, draw: Draw, *, chunk: int
) -> OuterLoss:
    """Return the mean cross-entropy on real images, chunk by chunk: memory is that of one chunk.

    Args:
        loss: the network and its derivatives.
        theta: (P,).
        split: the real images.
        index: (N,) which of them, from `Split.draw`.
        draw: their augmentation.
        chunk: most images at a time; the chunks are of equal size but for one image. The result
            is the same but for rounding, unless the network normalises over batches, whose
            statistics are those of a chunk.
    """
    sums = real_sums(loss, theta, split, index, draw, chunk=chunk)
    total, correct = read(sums.loss, sums.correct)
    return OuterLoss(total, correct / len(index), sums.cotangent)


def real_sums(
    loss: InnerLoss, theta: Tensor, split: Split, index: Tensor, draw: Draw, *, chunk: int
) -> RealSums:
    """Return what `real_loss` does, with the same arguments, but without waiting for the device."""
    size = len(index)
    draw = replace(draw, values=to_device(draw.values, theta.device))  # once, not in every chunk
    cotangent = torch.zeros_like(theta)
    total = torch.zeros((), device=theta.device, dtype=theta.dtype)
    correct = torch.zeros((), device=theta.device, dtype=torch.int64)
    for part in _equal_parts(size, chunk):
        labels = split.labels[index[part]]
        augmented = Augmentation.apply(split.take(index[part]), draw[part])
        share = len(labels) / size
        targets = functional.one_hot(labels, loss.model.num_classes).to(theta.dtype)
        found = loss.evaluate(theta, Batch(augmented, targets))
        cotangent += share * found.gradient
        total += share * found.loss
        correct += (found.logits.argmax(1) == labels).sum()
    return RealSums(total, correct, cotangent)


def _equal_parts(size: int, most: int) -> list[slice]:
    """Cut `size` images into as few parts of at most `most` as there can be.

    Batch statistics of a last image that is left over would be nothing.
    """
    count = -(-size // most)
    return [slice(*ends) for ends in pairwise(size * part // count for part in range(count + 1))]
