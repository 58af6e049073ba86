"""RaT-BPTT: backpropagation through a window of the inner loop that is placed at random.

Source: Feng et al. 2024 (arXiv:2311.07025); the engine of PoDD (arXiv:2403.12040).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from distill_core.builtin.algorithms.outer_groups import learned_groups
from distill_core.builtin.algorithms.unrolled.curriculum import Curriculum
from distill_core.builtin.algorithms.unrolled.inner_loop import (
    InnerLoop,
    Lengths,
    estimate_unrolled,
)
from distill_core.builtin.algorithms.unrolled.options import RatBpttOptions
from distill_core.plugin import (
    Adam,
    Algorithm,
    Augmentation,
    EmaClip,
    Estimate,
    InnerBatches,
    InnerOptimizer,
    Recipe,
    Sgd,
    Streams,
    SyntheticDataset,
    Task,
    gradient_norm,
)


class RatBptt(Algorithm):
    """Trains a fresh network on the synthetic data and differentiates the last steps of that."""

    def __init__(self, options: RatBpttOptions, *, task: Task) -> None:
        self.options = options
        self.resolved = options.resolve_defaults(small=task.real.spec.is_small)
        self.task = task
        augmentation = Augmentation.named(options.augment, task.real.spec.augmentations)
        batches = partial(
            InnerBatches.draw,
            size=options.batch,
            augmentation=augmentation,
            balanced=options.balanced,
        )
        optimizer = _inner_optimizer(options, self.resolved.inner_lr)
        self._loop = InnerLoop(task, optimizer, batches, augmentation)
        self._clips = {
            group: EmaClip(
                options.clip_decay,
                options.clip_factor,
                spikes_count=options.clip_spikes == "count",
            )
            for group, wanted in (("data", options.clip), ("labels", options.label_clip))
            if wanted
        }
        self._curriculum = Curriculum(
            options.curriculum,
            self.resolved.window,
            self.resolved.total,
            options.min_offset,
            options.epoch_steps,
            options.patience,
            self.resolved.spread,
        )

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return Adam with one learning rate for pixels and one for labels."""
        rates = {"data": self.resolved.pixel_lr, "labels": self.resolved.label_lr}
        return torch.optim.Adam(learned_groups(groups, rates))

    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Leave the gradient of the outer loss through the window in `.grad`, clipped."""
        norms = partial(self._loop.gradient_norms, synthetic, self.resolved.total, rng)
        offset, window = self._curriculum.next(step, rng["curriculum"], norms)
        loss = self._loop.fresh(rng)
        trained = self._loop.train(synthetic, loss, (offset, window), rng)
        index = self.task.real.train.draw(self.resolved.real_batch, generator=rng["real"])
        outer = self._loop.outer_loss(loss, trained.theta, index, rng)
        trained.backward(outer.cotangent)
        self._curriculum.observe(outer.loss)
        return {
            "loss": outer.loss,
            "accuracy": outer.accuracy,
            **self._clip(synthetic.groups()),
            "offset": offset,
            "window": window,
        }

    def recipe(self) -> Recipe:
        """Return the training of the papers' evaluation: the inner loop, carried on.

        Three times as long as the longest inner loop, and 300 steps at least; the published
        evaluation trains for 300 to 2000 steps (`evaluate.protocol=podd` for the last).
        """
        options = self.options
        return Recipe(
            optimizer=options.inner_optimizer,
            lr=self.resolved.inner_lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            batch_size=options.batch,
            steps=max(300, 3 * self.resolved.total),
            augment=options.augment,
        )

    def notes(self) -> Mapping[str, str]:
        """Say which settings followed from the size of the images and their number."""
        resolved, there = self.resolved, len(self.task.real.train)
        fewer = there <= resolved.real_batch
        real = f"all {there}" if fewer else str(resolved.real_batch)
        return {
            "inner loop": f"window {resolved.window} of at most {resolved.total} steps, "
            f"{self.options.inner_optimizer} at {resolved.inner_lr:g}",
            "outer step": f"{real} real images, pixels at {resolved.pixel_lr:g}, "
            f"labels at {resolved.label_lr:g}",
        }

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate:
        """Run a short outer step, and extrapolate; its memory is counted tensor by tensor."""
        del rng  # the run's streams stay where they are
        lengths = Lengths(*self._curriculum.mean(), self._curriculum.longest())
        return estimate_unrolled(
            self._loop, synthetic, lengths, real_batch=self.resolved.real_batch
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the average norms and the state of the curriculum."""
        state: dict[str, Any] = {
            f"clip.{group}": clip.ema for group, clip in self._clips.items() if clip.ema is not None
        }
        for name, value in self._curriculum.state_dict().items():
            state[f"curriculum.{name}"] = value
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        parts: dict[str, dict[str, Any]] = {"clip": {}, "curriculum": {}}
        for key, value in state.items():
            part, _, name = key.partition(".")
            parts[part][name] = value
        for group, clip in self._clips.items():
            clip.ema = parts["clip"].get(group)
        self._curriculum.load_state_dict(parts["curriculum"])

    def _clip(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for group, parameters in groups.items():
            prefix = "" if group == "data" else "label_"
            clip = self._clips.get(group)
            norm, clipped = clip(parameters) if clip else (gradient_norm(parameters), False)
            metrics[f"{prefix}grad_norm"] = norm
            if clip:
                metrics[f"{prefix}clipped"] = float(clipped)
        return metrics


def _inner_optimizer(options: RatBpttOptions, lr: float) -> InnerOptimizer:
    if options.inner_optimizer == "adam":
        return Adam(lr, eps_first=options.epsilon == "before")
    return Sgd(lr, options.momentum, options.weight_decay)
