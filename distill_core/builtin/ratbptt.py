"""RaT-BPTT: backpropagation through a window of the inner loop that is placed at random.

Source: Feng et al. 2024 (arXiv:2311.07025); the engine of PoDD (arXiv:2403.12040).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from distill_core.builtin.curriculum import Curriculum, CurriculumName
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
    OptionError,
    Options,
    Recipe,
    Streams,
    SyntheticDataset,
    Task,
)


class RatBpttOptions(Options):
    """Settings of `ratbptt`; the defaults are those of both papers on CIFAR-10."""

    window: int = Field(60, ge=1, description="inner steps that are differentiated")
    total: int = Field(200, ge=1, description="longest inner loop, steps")
    curriculum: CurriculumName = Field(
        "random",
        description="steps before the window: random; fixed (total - window); staged (more when "
        "the loss stalls); window (none, but a random length from window to total); none",
    )
    min_offset: int = Field(
        0, ge=0, description="fewest steps before the window, with curriculum random or staged"
    )
    epoch_steps: int = Field(
        1, ge=1, description="outer steps that share one draw of the curriculum"
    )
    patience: int = Field(
        600, ge=1, description="outer steps without a new low before a staged curriculum goes on"
    )
    inner_optimizer: Literal["adam", "sgd"] = Field("adam", description="inner optimizer")
    inner_lr: float = Field(1e-3, gt=0, description="learning rate of an inner step")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of inner SGD")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of inner SGD (papers: 5e-4)")
    batch: int = Field(96, ge=1, description="synthetic images per inner step")
    balanced: bool = Field(
        False, description="draw items of rare classes more often; no effect on full batches"
    )
    real_batch: int = Field(5000, ge=1, description="real images per outer step")
    real_chunk: int = Field(
        500,
        ge=1,
        description="real images at a time; changes memory, not the result (but for batch norm, "
        "whose statistics are those of a chunk)",
    )
    pixel_lr: float = Field(1e-3, gt=0, description="learning rate of pixels, outer Adam")
    label_lr: float | None = Field(
        None, gt=0, description="learning rate of labels, outer Adam; default: pixel_lr"
    )
    augment: Literal["none", "flip_rotate", "dsa"] = Field(
        "flip_rotate", description="augmentation of synthetic and, drawn apart, of real images"
    )
    clip: bool = Field(True, description="clip the gradient of the pixels")
    label_clip: bool = Field(False, description="clip that of the labels, on its own")
    clip_factor: float = Field(2.0, gt=0, description="bound, times the average norm")
    clip_decay: float = Field(0.9, ge=0, lt=1, description="decay of the average norm")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.curriculum != "none" and self.window > self.total:
            raise OptionError(
                f"option algo.window = {self.window} is longer than algo.total = {self.total}.",
                expected="1 <= window <= total.",
                next="pass -o algo.window=60 (the default), or raise -o algo.total.",
            )
        if self.curriculum in {"random", "staged"} and self.min_offset > self.total - self.window:
            raise OptionError(
                f"option algo.min_offset = {self.min_offset} leaves no room for the window.",
                expected=f"0 <= min_offset <= total - window = {self.total - self.window}.",
                next="lower -o algo.min_offset, or raise -o algo.total.",
            )
        if self.inner_optimizer == "adam" and self.weight_decay:
            raise OptionError(
                f"option algo.weight_decay = {self.weight_decay:g} has no effect.",
                expected="algo.weight_decay = 0 with algo.inner_optimizer = adam.",
                next="drop it, or pass -o algo.inner_optimizer=sgd.",
            )
        return self


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
        self.task = task
        self._augmentation = Augmentation.named(options.augment, task.real.spec.augmentations)
        self._optimizer = _inner_optimizer(options)
        self._clips = {
            group: EmaClip(options.clip_decay, options.clip_factor)
            for group, wanted in (("data", options.clip), ("labels", options.label_clip))
            if wanted
        }
        self._curriculum = Curriculum(
            options.curriculum,
            options.window,
            options.total,
            options.min_offset,
            options.epoch_steps,
            options.patience,
        )

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return Adam with one learning rate for pixels and one for labels."""
        options = self.options
        rates = {"data": options.pixel_lr, "labels": options.label_lr or options.pixel_lr}
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
        outer = self._outer_loss(model, trained.theta, self.options.real_batch, rng)
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
        """Return the training of the papers' evaluation: the inner loop, carried on."""
        options = self.options
        return Recipe(
            optimizer=options.inner_optimizer,
            lr=options.inner_lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            batch_size=options.batch,
            steps=2000,
            augment=options.augment,
        )

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate:
        """Run windows of one and two steps and one chunk of real images, and extrapolate."""
        del rng  # the run's streams stay where they are
        offset, window = self._curriculum.mean()
        size = min(self.options.real_batch, len(self.task.real.train))
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


def _inner_optimizer(options: RatBpttOptions) -> InnerOptimizer:
    if options.inner_optimizer == "adam":
        return Adam(options.inner_lr)
    return Sgd(options.inner_lr, options.momentum, options.weight_decay)
