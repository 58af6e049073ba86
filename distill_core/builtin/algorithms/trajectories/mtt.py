"""MTT: synthetic data on which a few steps lead where experts came by epochs on real data.

The gradient goes through all steps, exactly, by the engine's adjoint sweep: memory is a few vectors
of parameters for each step and the graph of one of them, in place of the graph of all.
Source: Cazenavette et al. 2022 (arXiv:2203.11932).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distill_core.builtin.algorithms.outer_groups import finish_gradients, learned_groups
from distill_core.builtin.algorithms.step_cost import Lap, clear_gradients, measure_parts
from distill_core.builtin.algorithms.trajectories.options import MttOptions
from distill_core.plugin import (
    Algorithm,
    Augmentation,
    Engine,
    Estimate,
    ExpertRecipe,
    Experts,
    InnerBatches,
    InnerLoss,
    InputError,
    PeakBytes,
    Recipe,
    Sgd,
    Streams,
    SyntheticDataset,
    Task,
    read,
    unroll,
)

STILL = 1e-8  # squared distance between start and target, per parameter, that cannot be matched
TRIES = 20
LARGEST_RATE_STEP = 0.1  # of the rate's logarithm, before momentum


class Target(NamedTuple):
    """Where a student starts, where it is to come (P,), and their squared distance, a scalar."""

    start: Tensor
    end: Tensor
    distance: Tensor


class Mtt(Algorithm):
    """Matches the parameters of a student to those of an expert, some epochs later."""

    def __init__(self, options: MttOptions, *, task: Task) -> None:
        spec = task.real.spec
        self.options = options
        self.task = task
        self.resolved = options.resolve_defaults(
            num_classes=spec.num_classes, side=min(spec.image_shape[1:])
        )
        self.expert_recipe = ExpertRecipe(
            lr=self.resolved.expert_lr,
            momentum=options.expert_momentum,
            batch=self.resolved.expert_batch,
            augment=options.augment,
            rho=options.rho,
            alpha=self.resolved.alpha if options.rho else 0.0,
        )
        self._augmentation = Augmentation.named(options.augment, spec.augmentations)
        start = torch.tensor(
            math.log(self.resolved.student_lr), device=task.real.train.labels.device
        )
        # Of the rate the logarithm is learned: the rate itself could become negative.
        self.log_rate = nn.Parameter(start, requires_grad=self.resolved.rate_lr > 0)

    @property
    def rate(self) -> float:
        """The student's learning rate."""
        return math.exp(float(self.log_rate.detach()))

    def meta_parameters(self) -> Sequence[nn.Parameter]:
        """Return the logarithm of the student's learning rate."""
        return (self.log_rate,) if self.log_rate.requires_grad else ()

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return SGD with a learning rate each for pixels, labels and the student's rate."""
        rates = {
            "data": self.resolved.pixel_lr,
            "labels": self.resolved.label_lr,
            # A step of the logarithm moves the rate by its square times as much.
            "algorithm": self.resolved.rate_lr / self.resolved.student_lr**2,
        }
        return torch.optim.SGD(
            learned_groups(groups, rates), lr=1.0, momentum=self.options.outer_momentum
        )

    def prepare(self, tell: Callable[[str], None]) -> None:
        """Make the experts that are missing."""
        self._experts().prepare(
            self.expert_recipe, self.options.experts, epochs=self.resolved.epochs, tell=tell
        )

    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Leave the gradient of the relative squared distance to the expert in `.grad`."""
        del step
        loss = self.task.engine.loss(self.task.new_backbone(rng["backbone"]))
        target, skipped = self._draw_target(loss, rng["experts"])
        value = self._match_steps(self.resolved.syn_steps, loss, target, synthetic, rng)
        metrics = finish_gradients(synthetic, normalize=self.options.coverage_normalize)
        self._bound_rate_step()
        loss_now, log_rate = read(value, self.log_rate)
        return {"loss": loss_now, "rate": math.exp(log_rate), "skipped": float(skipped), **metrics}

    def match(self, loss: InnerLoss, target: Target, batches: InnerBatches, rate: Tensor) -> Tensor:
        """Train a student, leave gradients of the matching loss, and return that, a scalar."""
        student = unroll(
            loss,
            Sgd(self.resolved.student_lr, momentum=0.0),
            target.start,
            batches,
            warm_up=0,
            window=len(batches),
            rates=rate,
        )
        left = student.theta - target.end
        student.backward(2 * left / target.distance)
        return left @ left / target.distance

    def recipe(self) -> Recipe:
        """Return the published evaluation, at the learned rate and the batch size that it fits."""
        return Recipe(
            optimizer="sgd",
            lr=self.rate,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="step",
            batch_size=self.resolved.batch,
            steps=1000,
            augment=self.options.augment,
        )

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate:
        """Match a few steps, to parameters that no expert has, and extrapolate."""
        del rng  # the run's streams stay where they are
        steps, engine = self.resolved.syn_steps, self.task.engine
        few, some = min(4, steps), min(8, steps)
        (seconds,), memory = measure_parts(
            lambda lap: self._measure(some, synthetic, engine, lap),
            synthetic,
            self.task.real.train.labels.device,
        )
        peaks = []
        for count in (few, some):
            with PeakBytes() as least:
                self._measure(count, synthetic, engine.without_cache())
            clear_gradients(synthetic)
            peaks.append(least.peak)
        kept = (peaks[1] - peaks[0]) // max(some - few, 1)  # bytes that a step leaves behind
        retained = min(steps * max(memory - peaks[1], 0) // some, engine.activation_cache)
        return Estimate(
            seconds=steps / some * seconds,
            memory=peaks[1] + (steps - some) * kept + retained,
            measured=f"{few} and {some} steps of the student were matched, of {steps}; no expert "
            "was made.",
            retained=retained,
            trial=max(memory, peaks[1]),
        )

    def notes(self) -> Mapping[str, str]:
        """Say which settings followed from the data."""
        resolved = self.resolved
        kind = "flat experts" if self.options.rho else "experts"
        return {
            "matching": f"{resolved.syn_steps} steps against {resolved.expert_epochs} epochs, from "
            f"epochs below {resolved.max_start}; {self.options.experts} {kind}",
            "outer step": f"pixels at {resolved.pixel_lr:g}, rate at {resolved.rate_lr:g}, batches "
            f"of at most {resolved.batch}",
        }

    def _match_steps(
        self,
        steps: int,
        loss: InnerLoss,
        target: Target,
        synthetic: SyntheticDataset,
        rng: Streams,
    ) -> Tensor:
        """Draw the batches of so many steps, and `match` them."""
        batches = InnerBatches.passes(
            synthetic,
            size=self.resolved.batch,
            steps=steps,
            augmentation=self._augmentation,
            rng=rng,
        )
        return self.match(loss, target, batches, self.log_rate.exp().to(target.start.dtype))

    def _measure(
        self,
        steps: int,
        synthetic: SyntheticDataset,
        engine: Engine,
        lap: Lap = lambda: None,
    ) -> None:
        """Do an outer step with a few of the student's."""
        rng = Streams(0)
        loss = engine.loss(self.task.new_backbone(rng["backbone"]))
        start = loss.model.theta.clone()
        target = Target(start, start + 1, torch.tensor(float(len(start))).to(start))
        self._match_steps(steps, loss, target, synthetic, rng)
        finish_gradients(synthetic, normalize=self.options.coverage_normalize)
        self.log_rate.grad = None
        lap()

    def _experts(self) -> Experts:
        if self.task.experts is None:
            raise InputError(
                "there are no expert trajectories for this task.",
                expected="a task with `experts`.",
                next="make the task with `experts=Experts(...)`.",
            )
        return self.task.experts

    def _draw_target(self, loss: InnerLoss, generator: torch.Generator) -> tuple[Target, int]:
        """Draw an expert and an epoch to start from; another where the expert stood still."""
        like, resolved = loss.model.theta, self.resolved
        for skipped in range(TRIES):
            index = int(torch.randint(self.options.experts, (), generator=generator))
            first = int(torch.randint(resolved.max_start, (), generator=generator))
            start, end = (
                snapshot.to(like)
                for snapshot in self._experts().snapshots(
                    self.expert_recipe,
                    index,
                    [first, first + resolved.expert_epochs],
                    until=resolved.epochs,
                )
            )
            distance = (start - end).square().sum()
            if float(distance) >= STILL * len(like):
                return Target(start, end, distance), skipped
        raise InputError(
            f"the experts stand still: {TRIES} that were drawn are where they were "
            f"{resolved.expert_epochs} epochs before.",
            expected="experts that move between the epochs that are matched.",
            next="raise -o algo.expert_lr or -o algo.expert_epochs, or lower -o algo.max_start.",
        )

    def _bound_rate_step(self) -> None:
        """Keep one outer step from moving the rate by an order of magnitude."""
        gradient = self.log_rate.grad
        if gradient is not None:
            lr = self.resolved.rate_lr / self.resolved.student_lr**2
            gradient.clamp_(-LARGEST_RATE_STEP / lr, LARGEST_RATE_STEP / lr)
