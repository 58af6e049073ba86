"""Gradient clipping: at a fixed norm, or relative to a moving average of the norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


class EmaClip:
    """Clips a group's gradient to a multiple of the moving average of its norm.

    The average starts as the first norm. It takes in the current norm before it is used, so
    even a single spike raises its own bound: after norms 1 and 10 it is 1.9, and twice that is
    the bound for the second.

    Args:
        decay: weight of the past in the average.
        factor: the bound as a multiple of the average.

    Attributes:
        ema: the average; None before the first gradient. All that a checkpoint needs.

    Source: Feng et al. 2024 (RaT-BPTT), published code.
    """

    def __init__(self, decay: float, factor: float) -> None:
        self.decay = decay
        self.factor = factor
        self.ema: float | None = None

    @torch.no_grad()
    def __call__(self, parameters: Sequence[nn.Parameter]) -> tuple[float, bool]:
        """Clip `.grad` of all parameters together, in place.

        A norm that is not finite leaves gradient and average as they are, for the engine to stop
        the run.

        Returns:
            The norm before clipping, and whether it was clipped.
        """
        norm = gradient_norm(parameters)
        if not math.isfinite(norm):
            return norm, False
        past = norm if self.ema is None else self.ema
        self.ema = self.decay * past + (1 - self.decay) * norm
        bound = self.factor * self.ema
        if norm <= bound:
            return norm, False
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(bound / norm)
        return norm, True


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    """Return the Euclidean norm of all gradients together; absent ones count as zero."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(grads)) if grads else 0.0


@torch.no_grad()
def clip_norm(parameters: Sequence[nn.Parameter], bound: float) -> bool:
    """Scale `.grad` of all parameters together down to a norm of at most `bound`, in place.

    Returns:
        Whether it was above. A norm that is not finite leaves the gradient as it is, for the
        engine to stop the run.
    """
    norm = gradient_norm(parameters)
    if not bound < norm < math.inf:
        return False
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(bound / norm)
    return True
