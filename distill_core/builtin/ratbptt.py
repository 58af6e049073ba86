"""RaT-BPTT: backpropagation through a window of the inner loop that is placed at random.

Source: Feng et al. 2024 (arXiv:2311.07025); the engine of PoDD (arXiv:2403.12040).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distill_core.builtin.curriculum import Curriculum
from distill_core.builtin.ratbptt_options import RatBpttOptions
from distill_core.plugin import (
    Adam,
    Algorithm,
    Augmentation,
    EmaClip,
    Estimate,
    InnerBatches,
    InnerLoss,
    InnerOptimizer,
    InputError,
    OuterLoss,
    PeakBytes,
    Recipe,
    Sgd,
    Streams,
    SyntheticDataset,
    Task,
    Unrolled,
    gradient_norm,
    real_loss,
    unroll,
)


class _Cost(NamedTuple):
    """Seconds and bytes of one short outer step.

    Attributes:
        inner: seconds of an inner step.
        outer: seconds of the outer loss.
        back: seconds of a step of the window going back.
        outer_bytes: peak until the outer loss is known.
        back_bytes: peak from there on.
        kept_bytes: what a step of the window leaves behind.
    """

    inner: float
    outer: float
    back: float
    outer_bytes: int
    back_bytes: int
    kept_bytes: int


_TIMES = ("inner", "outer", "back")
MEASUREMENTS, MEASURED_SECONDS = 5, 1.0


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
        loss = self.task.engine.loss(self.task.new_backbone(rng["backbone"]))
        trained = self._unroll(synthetic, loss, offset, window, rng)
        outer = self._outer_loss(loss, trained.theta, self.settled.real_batch, rng)
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
        """Run a short outer step, and extrapolate; its memory is counted tensor by tensor."""
        del rng  # the run's streams stay where they are
        mean_offset, mean_window = self._curriculum.mean()
        longest = self._curriculum.longest()
        size = min(self.settled.real_batch, len(self.task.real.train))
        chunk = min(self.task.engine.real_chunk, size)
        self._measure(synthetic, chunk)  # the first run pays for what is set up once
        cost = self._typical(synthetic, chunk)
        with PeakBytes() as memory:
            counted = self._measure(synthetic, chunk, memory)
        phases = {
            "inner steps": (mean_offset + mean_window) * cost.inner,
            "outer loss": size / chunk * cost.outer,
            "way back": mean_window * cost.back,
        }
        more = (longest - 1) * counted.kept_bytes
        return Estimate(
            seconds=sum(phases.values()),
            phases=phases,
            memory=more + max(counted.outer_bytes, counted.back_bytes),
            measured=f"an inner step, a window of one step and {chunk} real images were run, for "
            f"{mean_offset:g} + {mean_window:g} steps on average and {size} real images.",
        )

    def _typical(self, synthetic: SyntheticDataset, chunk: int) -> _Cost:
        """Median of a few measurements, one where they are long: a machine may have other work."""
        costs, until = [self._measure(synthetic, chunk)], time.perf_counter() + MEASURED_SECONDS
        while len(costs) < MEASUREMENTS and time.perf_counter() < until:
            costs.append(self._measure(synthetic, chunk))
        middle = {name: median(getattr(c, name) for c in costs) for name in _TIMES}
        return costs[0]._replace(**middle)

    def _measure(
        self, synthetic: SyntheticDataset, chunk: int, memory: PeakBytes | None = None
    ) -> _Cost:
        """Do an outer step with a warm-up of one step, a window of one and `chunk` real images."""
        rng = Streams(0)
        loss = self.task.engine.loss(self.task.new_backbone(rng["backbone"]))
        times = [time.perf_counter()]
        trained = self._unroll(synthetic, loss, 1, 1, rng)
        float(trained.theta[0])  # waits for the device
        times.append(time.perf_counter())
        outer = self._outer_loss(loss, trained.theta, chunk, rng)
        times.append(time.perf_counter())
        outer_bytes = memory.mark() if memory else 0
        kept_bytes = trained.bytes_per_step()
        float(trained.backward(outer.cotangent)[0])
        times.append(time.perf_counter())
        for parameter in synthetic.parameters():
            parameter.grad = None
        inner, outer_seconds, back = (b - a for a, b in itertools.pairwise(times))
        return _Cost(
            inner=inner / 2,
            outer=outer_seconds,
            back=back,
            outer_bytes=outer_bytes,
            back_bytes=memory.mark() if memory else 0,
            kept_bytes=kept_bytes,
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
        self, synthetic: SyntheticDataset, loss: InnerLoss, offset: int, window: int, rng: Streams
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
        theta = loss.model.theta
        return unroll(loss, self._optimizer, theta, batches, warm_up=offset, window=window)

    def _outer_loss(self, loss: InnerLoss, theta: Tensor, size: int, rng: Streams) -> OuterLoss:
        """Mean loss on a real batch, drawn and augmented anew."""
        real = self.task.real
        index = real.train.draw(size, generator=rng["real"])
        draw = self._augmentation.draw(
            len(index), real.spec.image_shape[1:], generator=rng["augment"]
        )
        chunk = self.task.engine.real_chunk
        return real_loss(loss, theta, real.train, index, draw, chunk=chunk)

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
