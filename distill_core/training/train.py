"""Train one network on a fixed set of images by a recipe, and measure its accuracy.

For distilled and for real images; everything lives on one device. `evaluation/evaluate.py` decides
the recipe, the number of networks, and what they are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import islice, tee
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from distill_core.contracts.data import Split, as_float32
from distill_core.contracts.network import Backbone
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import Batch
from distill_core.contracts.transfer import all_to_device
from distill_core.data.augment import Augmentation, Draw
from distill_core.engine.drawn_steps import DrawnSteps
from distill_core.engine.forward import network_logits
from distill_core.engine.graphs.capture import CudaCapture
from distill_core.engine.graphs.training import no_training_graphs, train_by_graphs
from distill_core.engine.losses import soft_cross_entropy
from distill_core.engine.optimizers import Adam as FlatAdam
from distill_core.engine.optimizers import InnerOptimizer
from distill_core.engine.optimizers import Sgd as FlatSgd
from distill_core.training.modes import own_modes

Network = TypeVar("Network", bound=nn.Module)
Observe = Callable[[int, nn.Module], None]
DRAWN_TOGETHER = 256  # steps whose draws go to the device in one copy


def train(
    backbone: Network,
    images: Tensor | Split,
    labels: Tensor,
    recipe: Recipe,
    *,
    augmentation: Augmentation,
    generator: Generator,
    at_steps: Collection[int] = (),
    observe: Observe | None = None,
) -> Network:
    """Train a network in place, in training mode, with soft cross-entropy.

    Modules that are in evaluation mode inside a network in training mode stay so.

    Every step draws its batch anew, without replacement; all images, in order, if there are no
    more than `recipe.batch_size`.

    Args:
        backbone: a network of K outputs on the device of `images`.
        images: (n, C, h, w); half-precision images are converted to float32 for training. Or a
            split whose images stay on the disk.
        labels: (n, K) soft labels, or (n,) int64 classes.
        recipe: optimizer, schedule, batch size and steps; its `augment` is not read.
        augmentation: applied to every batch.
        generator: source of batches and augmentation, on the CPU; some steps are drawn ahead.
        at_steps: numbers of steps after which `observe(step, backbone)` is called.
        observe: may put the network into evaluation mode; training continues in the mode before.

    Returns:
        The same network.
    """
    if isinstance(images, Tensor):
        # An artefact's index tables cut them out channels last: slower, and it rounds differently.
        images = images.contiguous()
    split = Split(images, labels) if isinstance(images, Tensor) else images
    first, device = split.take(slice(0, 1)), split.device
    num_classes = labels.shape[1] if labels.ndim > 1 else _outputs(backbone, first)
    drawn = _drawn(len(split), first, recipe, augmentation, generator)
    if not backbone.training:  # in one that is, somebody chose the modules that are not
        backbone.train()
    if (
        isinstance(images, Tensor)
        and isinstance(backbone, Backbone)
        and not no_training_graphs(backbone, images)
    ):
        train_by_graphs(
            backbone,
            DrawnSteps.of(Batch(images, _soft(labels, num_classes, torch.float32)), drawn),
            _flat_optimizer(recipe),
            [learning_rate(recipe, step) for step in range(recipe.steps)],
            capture=CudaCapture(device),
            at_steps=at_steps,
            observe=(lambda step: observe(step, backbone)) if observe else None,
        )
        return backbone
    optimizer = make_optimizer(backbone, recipe)
    logits_of = network_logits(backbone, device)
    ahead, sent = tee(_sent(drawn, device))
    batches = split.stream(slice(None) if index is None else index for index, _ in ahead)
    for step, ((index, draw), batch) in enumerate(zip(sent, batches, strict=True)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        targets = labels if index is None else labels[index]
        optimizer.zero_grad()
        logits = logits_of(augmentation.apply(batch, draw))
        loss = soft_cross_entropy(logits, _soft(targets, num_classes, batch.dtype))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if observe is not None and step + 1 in at_steps:
            with own_modes(backbone):
                observe(step + 1, backbone)
    return backbone


def training_batches(
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    augmentation: Augmentation,
    generator: Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches that `train` would train on, one for each step of a recipe, augmented.

    Args:
        images, labels, recipe, augmentation, generator: as of `train`.
    """
    images = images.contiguous()
    drawn = _drawn(len(images), images[:1], recipe, augmentation, generator)
    for index, draw in _sent(drawn, images.device):
        chosen = slice(None) if index is None else index
        yield augmentation.apply(images[chosen], draw), labels[chosen]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step, counted from 0.

    "step" divides it by 10 from the middle on; "cosine" lowers it from the full rate to almost 0.

    >>> [learning_rate(Recipe(lr=1, schedule="step", steps=4), step) for step in range(4)]
    [1.0, 1.0, 0.1, 0.1]
    """
    if recipe.schedule == "step":
        return recipe.lr * (0.1 if 2 * step >= recipe.steps else 1.0)
    if recipe.schedule == "cosine":
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    return recipe.lr


def make_optimizer(backbone: nn.Module, recipe: Recipe) -> Optimizer:
    """Return the optimizer of a recipe over all parameters of a network."""
    if recipe.optimizer == "adam":
        return Adam(backbone.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return SGD(
        backbone.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )


def _flat_optimizer(recipe: Recipe) -> InnerOptimizer:
    """The same optimizer for flat parameters."""
    if recipe.optimizer == "adam":
        return FlatAdam(recipe.lr, weight_decay=recipe.weight_decay)
    return FlatSgd(recipe.lr, recipe.momentum, recipe.weight_decay)


def accuracy(backbone: nn.Module, split: Split, chunk: int = 500) -> float:
    """Return the fraction of images whose largest logit is their label's, in evaluation mode.

    Args:
        backbone: each module has its own mode again afterwards.
        split: whitened images and labels, on the network's device.
        chunk: images per forward pass.
    """
    return int(_is_right(backbone, split, chunk).sum()) / len(split)


def right_by_class(backbone: nn.Module, split: Split, num_classes: int) -> list[int]:
    """Return how many images of each of the K classes are right, as for `accuracy`."""
    labels = split.labels.cpu()[_is_right(backbone, split, chunk=500).cpu()]
    found: list[int] = torch.bincount(labels, minlength=num_classes).tolist()
    return found


@torch.no_grad()
def _is_right(backbone: nn.Module, split: Split, chunk: int) -> Tensor:
    """(N,) bool: the largest logit of the image is its label's, in evaluation mode; none is NaN."""
    logits_of = network_logits(backbone, split.labels.device)
    right = torch.zeros_like(split.labels, dtype=torch.bool)
    parts = [slice(start, start + chunk) for start in range(0, len(split), chunk)]
    with own_modes(backbone):
        backbone.eval()
        for part, images in zip(parts, split.stream(parts), strict=True):
            logits = logits_of(images)
            # NaN is no answer; to argmax it is the largest, so that class 0 would be known.
            right[part] = (logits.argmax(1) == split.labels[part]) & ~logits.isnan().any(1)
    return right


def _drawn(
    count: int, first: Tensor, recipe: Recipe, augmentation: Augmentation, generator: Generator
) -> Iterator[tuple[Tensor | None, Draw]]:
    """Yield for every step the indices (n,) of its images, None for all in order, and their
    augmentation, on the CPU. A step draws its images first, then its augmentation."""
    size = recipe.images_of_a_step(count)
    hw = (int(first.shape[-2]), int(first.shape[-1]))
    for _ in range(recipe.steps):
        # A copy: the slice alone would keep the whole permutation alive.
        order = torch.randperm(count, generator=generator) if size < count else None
        index = None if order is None else order[:size].clone()
        yield index, augmentation.draw(size, hw, generator=generator)


def _sent(
    drawn: Iterator[tuple[Tensor | None, Draw]], device: torch.device
) -> Iterator[tuple[Tensor | None, Draw]]:
    """Yield the same on the device. The draws of many steps are sent in one copy, because each
    copy makes a GPU wait."""
    while some := list(islice(drawn, DRAWN_TOGETHER)):
        index = [chosen for chosen, _ in some if chosen is not None]
        there = all_to_device([*(draw.values for _, draw in some), *index], device)
        for step, (_, draw) in enumerate(some):
            chosen = there[len(some) + step] if index else None
            yield chosen, replace(draw, values=there[step])


def _soft(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """(n, K) in the dtype of the images; class numbers become one-hot rows."""
    if labels.ndim == 1:
        labels = functional.one_hot(labels, num_classes)
    return labels.to(dtype)


@torch.no_grad()
def _outputs(backbone: nn.Module, images: Tensor) -> int:
    """K, from the network's output; class numbers do not tell it."""
    with own_modes(backbone):
        backbone.eval()
        logits = backbone(as_float32(images[:1]))
    return int(logits.shape[1])
