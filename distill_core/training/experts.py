"""Expert trajectories: networks trained on the real data, with their parameters after every epoch.

This module makes one expert from its recipe and its random streams; `expert_cache.py` stores
experts.

Source: Cazenavette et al. 2022 (MTT) and its published code; flat experts: Du et al. 2023 (FTD),
adaptive sharpness-aware minimisation with the surrogate gap (Zhuang et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Generator, Tensor
from torch.nn import functional

from distill_core.contracts.data import RealData
from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.experts import ExpertRecipe
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import Batch
from distill_core.contracts.transfer import all_to_device
from distill_core.data.augment import Augmentation
from distill_core.engine.optimizers import Sgd

NORM_FLOOR = 1e-12


def train_expert(
    loss: InnerLoss, real: RealData, recipe: ExpertRecipe, *, epochs: int, rng: Streams
) -> Tensor:
    """Train a network on the real training images; return its trajectory.

    Args:
        loss: the network, freshly initialised, and its derivatives.
        real: the data; only `train` is read.
        recipe: how to train.
        epochs: passes over the data.
        rng: the streams of this expert alone. A longer training starts with the same epochs.

    Returns:
        (epochs + 1, P) the parameters before the first and after every epoch, float32 on the CPU;
        copies that later steps do not change.
    """
    optimizer = Sgd(recipe.lr, recipe.momentum, recipe.weight_decay)
    augmentation = Augmentation.named(recipe.augment, real.spec.augmentations)
    theta = loss.model.theta
    state = optimizer.init(theta)
    snapshots = torch.empty(epochs + 1, len(theta), dtype=torch.float32)
    snapshots[0] = theta
    with torch.no_grad():
        for epoch in range(epochs):
            order = torch.randperm(len(real.train), generator=rng["batches"])
            for index in torch.split(order, recipe.batch):
                batch = real_batch(real, index, augmentation, rng["augment"], theta.dtype)
                gradient = direction(loss, theta, batch, recipe)
                theta, state = optimizer.update(theta, gradient, state, recipe.lr)
            snapshots[epoch + 1] = theta
    return snapshots


def real_batch(
    real: RealData,
    index: Tensor,
    augmentation: Augmentation,
    generator: Generator,
    dtype: torch.dtype,
) -> Batch:
    """Return the training images at `index` (n,), augmented anew, with one-hot labels."""
    draw = augmentation.draw(len(index), real.spec.image_shape[1:], generator=generator)
    index, values = all_to_device([index, draw.values], real.train.labels.device)
    draw = replace(draw, values=values)
    images = Augmentation.apply(real.train.take(index).to(dtype), draw)
    labels = functional.one_hot(real.train.labels[index], real.spec.num_classes)
    return Batch(images, labels.to(dtype))


def direction(loss: InnerLoss, theta: Tensor, batch: Batch, recipe: ExpertRecipe) -> Tensor:
    """Return the update direction: the gradient, or that of a flat expert."""

    def gradient(at: Tensor) -> Tensor:
        return loss.evaluate(at, batch).gradient

    return flat_gradient(gradient, theta, recipe) if recipe.rho else gradient(theta)


def flat_gradient(
    gradient: Callable[[Tensor], Tensor], theta: Tensor, recipe: ExpertRecipe
) -> Tensor:
    """Return the direction of adaptive sharpness-aware minimisation with the surrogate gap.

    It is the gradient at theta + rho theta^2 g / ||theta g||, minus alpha times the part of the
    plain gradient g that is orthogonal to it.

    Args:
        gradient: the gradient of one batch's loss at given parameters (P,).
        theta: (P,).
        recipe: rho and alpha.
    """
    plain = gradient(theta)
    radius = recipe.rho / ((theta * plain).norm() + NORM_FLOOR)
    perturbed = gradient(theta + radius * theta.square() * plain)
    along = (plain @ perturbed) / (perturbed @ perturbed + NORM_FLOOR**2)
    return perturbed - recipe.alpha * (plain - along * perturbed)
