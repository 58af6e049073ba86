"""RaT-BPTT: backpropagation through a window of the inner loop that is placed at random.

Source: Feng et al. 2024 (arXiv:2311.07025); the engine of PoDD (arXiv:2403.12040).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from distill_core.builtin.curriculum import Curriculum
from distill_core.builtin.ratbptt_options import RatBpttOptions
from distill_core.clipping import EmaClip, gradient_norm
from distill_core.functional import FlatModel
from distill_core.inner import Adam, InnerOptimizer, Sgd, Unrolled, unroll
from distill_core.inner_batches import InnerBatches
from distill_core.measure import SavedBytes
from distill_core.plugin import (
    Algorithm,
    Augmentation,
    Estimate,
    InputError,
    Recipe,
    Streams,
    SyntheticDataset,
    Task,
)


class OuterLoss(NamedTuple):
    """The outer loss of one real batch, the accuracy on it, and the gradient in theta (P,)."""

    loss: float
    accuracy: float
    cotangent: Tensor


class _Cost(NamedTuple):
    """Seconds and bytes of a warm-up step, of a window and of a chunk of the outer loss."""

    warm_up: float
    window: float
    outer: float
    window_bytes: int
    outer_bytes: int


class RatBptt(Algorithm):
    """Trains a fresh network on the synthetic data and differentiates the last steps of that."""

    def __init__(self, options: RatBpttOptions, *, task: Task) -> None:
        self.options = options
        self.settled = options.settle(small=task.real.spec.is_small)
        self.task = task
        self._augmentation = Augmentation.named(options.augment, task.real.spec.augmentations)
        self._optimizer = _inner_optimizer(options, self.settled.inner_lr)
        self._clips = {
            group: EmaClip(options.clip_decay, options.clip_factor)
            for group, wanted in (("data", options.clip), ("labels", options.label_clip))
            if wanted
        }
        self._curriculum = Curriculum(
            options.curriculum,
            self.settled.window,
            self.settled.total,
            options.min_offset,
            options.epoch_steps,
            options.patience,
        )

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return Adam with one learning rate for pixels and one for labels."""
        rates = {"data": self.settled.pixel_lr, "labels": self.settled.label_lr}
        found = [
            {"params": list(groups[name]), "lr": lr, "name": name}
            for name, lr in rates.items()
            if groups.get(name)
        ]
        if not found:
            raise InputError(
                "there is nothing to learn: neither pixels nor labels can be trained.",
                expected="a representation or a labeler with parameters.",
                next="choose another --repr or --labeler.",
            )
        return torch.optim.Adam(found)

    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Leave the gradient of the outer loss through the window in `.grad`, clipped."""
        offset, window = self._curriculum.next(step, rng["curriculum"])
        model = FlatModel(self.task.new_backbone(rng["backbone"]))
        trained = self._unroll(synthetic, model, offset, window, rng)
        outer = self._outer_loss(model, trained.theta, self.settled.real_batch, rng)
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
            lr=self.settled.inner_lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            batch_size=options.batch,
            steps=max(300, 3 * self.settled.total),
            augment=options.augment,
        )

    def notes(self) -> Mapping[str, str]:
        """Say which settings followed from the size of the images."""
        settled = self.settled
        return {
            "inner loop": f"window {settled.window} of at most {settled.total} steps, "
            f"{self.options.inner_optimizer} at {settled.inner_lr:g}",
            "outer step": f"{settled.real_batch} real images, pixels at {settled.pixel_lr:g}, "
            f"labels at {settled.label_lr:g}",
        }

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate:
        """Run windows of one and two steps and one chunk of real images, and extrapolate."""
        del rng  # the run's streams stay where they are
        offset, window = self._curriculum.mean()
        size = min(self.settled.real_batch, len(self.task.real.train))
        chunk = min(self.options.real_chunk, size)
        self._measure(synthetic, 1, chunk)  # the first run pays for what is set up once
        one, two = self._measure(synthetic, 1, chunk), self._measure(synthetic, 2, chunk)
        step_bytes = two.window_bytes - one.window_bytes
        seconds = (
            offset * two.warm_up
            + window * max(two.window - one.window, 0.0)
            + size / chunk * two.outer
        )
        return Estimate(
            seconds=seconds,
            memory=int(window * step_bytes + max(step_bytes, two.outer_bytes)),
            measured=f"a warm-up step, windows of 1 and 2 steps with their backward pass and "
            f"{chunk} real images were run, for {offset:g} + {window:g} steps on average and "
            f"{size} real images.",
        )

    def _measure(self, synthetic: SyntheticDataset, window: int, chunk: int) -> _Cost:
        rng = Streams(0)
        model = FlatModel(self.task.new_backbone(rng["backbone"]))
        start = time.perf_counter()
        float(self._unroll(synthetic, model, 1, 0, rng).theta[0])  # waits for the device
        warmed = time.perf_counter()
        with SavedBytes() as window_saved:
            trained = self._unroll(synthetic, model, 0, window, rng)
        unrolled = time.perf_counter()
        with SavedBytes() as outer_saved:
            outer = self._outer_loss(model, trained.theta, chunk, rng)
        evaluated = time.perf_counter()
        trained.backward(outer.cotangent)
        float(trained.theta[0])
        ended = time.perf_counter()
        for parameter in synthetic.parameters():
            parameter.grad = None
        return _Cost(
            warm_up=warmed - start,
            window=unrolled - warmed + ended - evaluated,
            outer=evaluated - unrolled,
            window_bytes=window_saved.bytes,
            outer_bytes=outer_saved.bytes,
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

    def _unroll(
        self, synthetic: SyntheticDataset, model: FlatModel, offset: int, window: int, rng: Streams
    ) -> Unrolled:
        options = self.options
        batches = InnerBatches.draw(
            synthetic,
            size=options.batch,
            steps=offset + window,
            augmentation=self._augmentation,
            rng=rng,
            balanced=options.balanced,
        )
        return unroll(model, self._optimizer, model.theta, batches, warm_up=offset, window=window)

    def _outer_loss(self, model: FlatModel, theta: Tensor, size: int, rng: Streams) -> OuterLoss:
        """Mean loss on a real batch, chunk by chunk: no graph lives longer than its chunk."""
        images, labels = self.task.real.train.batch(size, generator=rng["real"])
        size = len(labels)
        draw = self._augmentation.draw(
            size, (images.shape[2], images.shape[3]), generator=rng["augment"]
        )
        theta = theta.detach().requires_grad_()
        cotangent = torch.zeros_like(theta)
        loss = torch.zeros((), device=theta.device, dtype=theta.dtype)
        correct = torch.zeros((), device=theta.device, dtype=torch.int64)
        for start in range(0, size, self.options.real_chunk):
            part = slice(start, start + self.options.real_chunk)
            logits = model.logits(theta, self._augmentation.apply(images[part], draw[part]))
            chunk_loss = cross_entropy(logits, labels[part], reduction="sum") / size
            cotangent += torch.autograd.grad(chunk_loss, theta)[0]
            loss += chunk_loss.detach()
            correct += (logits.detach().argmax(1) == labels[part]).sum()
        return OuterLoss(float(loss), float(correct) / size, cotangent)

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
        return Adam(lr)
    return Sgd(lr, options.momentum, options.weight_decay)
