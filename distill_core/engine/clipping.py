"""Gradient clipping: to a fixed norm, or relative to a moving average of the norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


class EmaClip:
    """Clips a group's gradient to a multiple of the moving average of its norm.

    The average starts at the first norm. As published, it is updated with the current norm before
    it is used, so a spike raises its own bound: with decay 0.9, after norms 1 and 10 the average is
    1.9, and with factor 2 the bound for the second norm is 3.8; after 1 and 1000 it is 201.8.

    Args:
        decay: weight of the past in the average.
        factor: the bound as a multiple of the average.
        spikes_count: as published. If not, the bound is `factor` times the average of earlier
            norms, each as it was after clipping: 2 in both examples, and it rises by at most
            1 + (1 - decay) * (factor - 1) a step.

    Attributes:
        ema: the average; None before the first gradient. A checkpoint needs nothing else.

    Source: Feng et al. 2024 (RaT-BPTT), published code.
    """

    def __init__(self, decay: float, factor: float, *, spikes_count: bool = True) -> None:
        self.decay = decay
        self.factor = factor
        self.spikes_count = spikes_count
        self.ema: float | None = None

    @torch.no_grad()
    def __call__(self, parameters: Sequence[nn.Parameter]) -> tuple[float, bool]:
        """Clip `.grad` of all parameters together, in place.

        If the norm is not finite, gradient and average stay as they are: the engine stops the run.

        Returns:
            The norm before clipping, and whether it was clipped.
        """
        norm = gradient_norm(parameters)
        if not math.isfinite(norm):
            return norm, False
        past = norm if self.ema is None else self.ema
        counted = norm if self.spikes_count else min(norm, self.factor * past)
        self.ema = self.decay * past + (1 - self.decay) * counted
        bound = self.factor * (self.ema if self.spikes_count else past)
        if norm <= bound:
            return norm, False
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(bound / norm)
        return norm, True


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    """Return the Euclidean norm of all gradients together; missing ones count as zero."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(grads)) if grads else 0.0


@torch.no_grad()
def clip_norm(parameters: Sequence[nn.Parameter], bound: float) -> bool:
    """Scale `.grad` of all parameters together down to a norm of at most `bound`, in place.

    Returns:
        Whether it was clipped. If the norm is not finite, the gradient stays as it is: the engine
        stops the run.
    """
    norm = gradient_norm(parameters)
    if not bound < norm < math.inf:
        return False
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(bound / norm)
    return True
