"""BPTT: backpropagation through the whole of an inner loop, which has momentum.

The engine goes back by an adjoint sweep, so that memory grows by a few vectors of the network's
size with every step.

Source: Deng and Russakovsky 2022 (arXiv:2206.02916), without its addressing, which is the
representation `basis`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from distill_core.builtin.algorithms.outer_groups import finish_gradients, learned_groups
from distill_core.builtin.algorithms.unrolled.inner_loop import (
    InnerLoop,
    Lengths,
    balanced_index,
    estimate_unrolled,
)
from distill_core.builtin.algorithms.unrolled.options import BpttOptions
from distill_core.plugin import (
    Algorithm,
    Augmentation,
    Estimate,
    InnerBatches,
    Recipe,
    Sgd,
    Streams,
    SyntheticDataset,
    Task,
    clip_norm,
    to_device,
)


class Bptt(Algorithm):
    """Trains a fresh network on the synthetic data and differentiates every step of that.

    The hypergradient is that of `ratbptt` with curriculum none, a window of `steps` and the same
    inner optimizer and draws, except for `coverage_normalize`.
    """

    def __init__(self, options: BpttOptions, *, task: Task) -> None:
        self.options = options
        self.task = task
        self._classes = task.real.train.labels.cpu()
        augmentation = Augmentation.named(options.augment, task.real.spec.augmentations)
        batches = partial(
            InnerBatches.draw,
            size=options.batch,
            augmentation=augmentation,
            balanced=options.balanced,
        )
        optimizer = Sgd(options.inner_lr, options.momentum, options.weight_decay)
        self._loop = InnerLoop(task, optimizer, batches, augmentation)

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return SGD with one learning rate for pixels and one for labels."""
        options = self.options
        rates = {"data": options.pixel_lr, "labels": options.label_lr or options.pixel_lr}
        return torch.optim.SGD(learned_groups(groups, rates), momentum=options.outer_momentum)

    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Leave the gradient of the outer loss through all steps in `.grad`, clipped.

        Pixels are divided by their coverage before: what is clipped is what a step is made from.
        """
        del step
        loss = self._loop.fresh(rng)
        trained = self._loop.train(synthetic, loss, (0, self.options.steps), rng)
        index = balanced_index(self._classes, self.options.real_per_class, generator=rng["real"])
        index = to_device(index, self.task.real.train.labels.device)
        outer = self._loop.outer_loss(loss, trained.theta, index, rng)
        trained.backward(outer.cotangent)
        norms = finish_gradients(synthetic, normalize=self.options.coverage_normalize)
        clipped = False
        if self.options.clip_norm is not None:
            members = [p for group in synthetic.groups().values() for p in group]
            clipped = clip_norm(members, self.options.clip_norm)
        return {
            "loss": outer.loss,
            "accuracy": outer.accuracy,
            **norms,
            "clipped": float(clipped),
        }

    def recipe(self) -> Recipe:
        """Return the inner loop, twice as long, and 300 steps at least.

        The published evaluation trains for 300 epochs, which are 300 steps at one image per
        class.
        """
        options = self.options
        return Recipe(
            optimizer="sgd",
            lr=options.inner_lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            batch_size=options.batch,
            steps=max(300, 2 * options.steps),
            augment=options.augment,
        )

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate:
        """Run a short outer step, and extrapolate; its memory is counted tensor by tensor."""
        del rng  # the run's streams stay where they are
        steps = self.options.steps
        real_batch = self.options.real_per_class * self.task.real.spec.num_classes
        return estimate_unrolled(
            self._loop, synthetic, Lengths(0, steps, steps), real_batch=real_batch
        )
