"""DD, the first dataset distillation: a few steps of gradient descent with learned rates.

Every inner step has a fixed batch of items and a learning rate of its own, softplus of a learned
number, so that it is positive whatever happens.

Source: Wang et al. 2018 (arXiv:1811.10959), random initial networks; with learned labels,
Sucholutsky and Schonlau 2019 (arXiv:1910.02551).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from distill_core.builtin.algorithms.outer_groups import learned_groups
from distill_core.builtin.algorithms.unrolled.inner_loop import (
    InnerLoop,
    Lengths,
    estimate_unrolled,
)
from distill_core.builtin.algorithms.unrolled.options import DdOptions
from distill_core.plugin import (
    Algorithm,
    Augmentation,
    DivergenceError,
    Estimate,
    InnerBatches,
    Recipe,
    Sgd,
    Streams,
    SyntheticDataset,
    Task,
    gradient_norm,
)


class Dd(Algorithm):
    """Descends on fixed batches in turn and learns pixels, labels and every step's rate."""

    def __init__(self, options: DdOptions, *, task: Task) -> None:
        self.options = options
        self.task = task
        self.batch = options.batch or task.real.spec.num_classes
        start = math.log(math.expm1(options.inner_lr))  # softplus of it is inner_lr
        device = task.real.train.device
        self.raw_rates = nn.Parameter(torch.full((options.steps,), start, device=device))
        self._augmentation = Augmentation.named(options.augment, task.real.spec.augmentations)
        plain = Sgd(options.inner_lr, momentum=0.0)
        self._loop = InnerLoop(task, plain, self._batches, self._augmentation)

    def meta_parameters(self) -> Sequence[nn.Parameter]:
        """Return the rates before softplus (T,)."""
        return (self.raw_rates,)

    def rates(self) -> Tensor:
        """Return the learning rate of every inner step, (T,) > 0; differentiable."""
        return functional.softplus(self.raw_rates)

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return Adam with one learning rate for labels, and one for pixels and inner rates."""
        options = self.options
        rates = {
            "data": options.pixel_lr,
            "labels": options.label_lr or options.pixel_lr,
            "algorithm": options.pixel_lr,
        }
        return torch.optim.Adam(learned_groups(groups, rates))

    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Leave the gradient of the outer loss in `.grad` of pixels, labels and rates."""
        del step
        loss, rates = self._loop.fresh(rng), self.rates()
        trained = self._loop.train(synthetic, loss, (0, self.options.steps), rng, rates)
        index = self.task.real.train.draw(self.options.real_batch, generator=rng["real"])
        outer = self._loop.outer_loss(loss, trained.theta, index, rng)
        trained.backward(outer.cotangent)
        norms = {
            "grad_norm" if group == "data" else "label_grad_norm": gradient_norm(parameters)
            for group, parameters in synthetic.groups().items()
        }
        return {
            "loss": outer.loss,
            "accuracy": outer.accuracy,
            **norms,
            "rate_grad_norm": gradient_norm([self.raw_rates]),
            "inner_lr": float(rates.detach().mean()),
        }

    def recipe(self) -> Recipe:
        """Return as many steps of plain descent at the mean of the learned rates.

        The rates in their order belong to the batches in theirs; a recipe draws batches at random.

        Raises:
            DivergenceError: the mean has become 0, or is not finite.
        """
        mean = float(self.rates().detach().mean())
        if not 0 < mean < math.inf:
            raise DivergenceError(
                f"the learned inner learning rates have a mean of {mean:g}.",
                expected="a positive number, so that networks can be trained on the result.",
                next="start again with a smaller -o algo.pixel_lr, the rate of these, too.",
            )
        return Recipe(
            optimizer="sgd",
            lr=mean,
            momentum=0.0,
            batch_size=self.batch,
            steps=self.options.steps,
            augment=self.options.augment,
        )

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate:
        """Run a short outer step, and extrapolate; its memory is counted tensor by tensor."""
        del rng  # the run's streams stay where they are
        steps = self.options.steps
        return estimate_unrolled(
            self._loop, synthetic, Lengths(0, steps, steps), real_batch=self.options.real_batch
        )

    def _batches(self, synthetic: SyntheticDataset, *, steps: int, rng: Streams) -> InnerBatches:
        """Give the steps their batches, in turn; only the augmentation is drawn."""
        parts = chunks(len(synthetic), self.batch)
        boxes = [synthetic.items(parts[step % len(parts)]) for step in range(steps)]
        hw = synthetic.spec.image_shape[1:]
        draws = [self._augmentation.draw(len(b), hw, generator=rng["augment"]) for b in boxes]
        return InnerBatches(synthetic, boxes, draws)


def chunks(number: int, size: int) -> list[Tensor]:
    """Split items 0 to number - 1 into the fewest chunks of at most `size`, by turns.

    Neighbouring items go to different chunks: they are often of one class.

    >>> [chunk.tolist() for chunk in chunks(6, 3)]
    [[0, 2, 4], [1, 3, 5]]
    """
    parts = -(-number // size)
    return [torch.arange(first, number, parts) for first in range(parts)]
