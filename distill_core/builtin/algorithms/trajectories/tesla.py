"""TESLA: trajectory matching by a first-order gradient, one step in memory at a time.

With theta_T = theta_0 - rate * (g_0 + ... + g_T-1) the gradient in the data of step t is taken
through its own g_t alone: the parameters at which later gradients were taken are constants. It is
not MTT's gradient, though the paper says so; `mtt` has that at about the same memory and cost.
Source: Cui et al. 2023 (arXiv:2211.10586) and its published code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill_core.builtin.algorithms.trajectories.mtt import Mtt, Target
from distill_core.builtin.algorithms.trajectories.options import TeslaOptions
from distill_core.plugin import Batch, InnerBatches, InnerLoss, Task, send


class Tesla(Mtt):
    """Matches trajectories as MTT, with the parameters between the steps held constant."""

    def __init__(self, options: TeslaOptions, *, task: Task) -> None:
        super().__init__(options, task=task)
        self.grad_scale = options.grad_scale

    def match(self, loss: InnerLoss, target: Target, batches: InnerBatches, rate: Tensor) -> Tensor:
        """Train a student, leave gradients of the matching loss, and return that, a scalar."""
        visited, moved = [], torch.zeros_like(target.start)
        held = rate.detach()
        with torch.no_grad():
            for step in range(len(batches)):
                visited.append(target.start - held * moved)
                moved = moved + loss.evaluate(visited[-1], batches(step)).gradient
        left = target.start - held * moved - target.end
        # d loss / d g_t, the same vector for every step.
        cotangent = -2 * held * self.grad_scale / target.distance * left
        for step, theta in enumerate(visited):
            with torch.enable_grad():
                batch = batches(step)
            product = loss.product(theta, batch, cotangent)
            send(batch, Batch(product.images, product.labels))
        batches.flush()
        if rate.requires_grad:
            torch.autograd.backward(rate, -2 * (left @ moved) / target.distance)
        return left @ left / target.distance
