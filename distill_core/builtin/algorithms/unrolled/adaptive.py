"""The adaptive window of AT-BPTT: where it lies and how long it is, from gradient norms.

Source: Li et al. 2025 (arXiv:2510.04838). A training is first run through once without derivatives;
the norms of its gradients say where inner training learns most, and where that changes.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from distill_core.plugin import DivergenceError

# Early, middle and late in distilling: steps with large gradients, any, and with small ones.
STAGES = (1.0, 0.0, -1.0)


def window_lengths(norms: Tensor, *, window: int, spread: int) -> Tensor:
    """Return the length of a window that starts at each step: (T,) int64.

    It is W - d + 2 d r / T, rounded down, where r is how many steps have a smaller change of the
    norm from the step before; that of the first is zero.

    Args:
        norms: (T,) of the gradients of an inner loop.
        window: W, steps.
        spread: d, steps.

    >>> window_lengths(torch.tensor([4.0, 1.0, 3.0, 3.0]), window=3, spread=2).tolist()
    [1, 4, 3, 1]
    """
    changes = torch.cat([norms.new_zeros(1), norms.diff().abs()])
    ranks = torch.searchsorted(changes.sort().values, changes)
    return window - spread + 2 * spread * ranks // len(norms)


def draw_window(
    norms: Tensor, *, stage: int, window: int, spread: int, generator: Generator
) -> tuple[int, int]:
    """Draw offset and length of a window.

    It starts at a step with probability softmax(norms), uniform, or softmax(-norms), and earlier
    where it would not fit.

    Args:
        norms: (T,) of the gradients of an inner loop, on any device.
        stage: index into `STAGES`.
        window: mean length, steps.
        spread: how much the length varies, steps.
        generator: the source of randomness, on the CPU.

    Raises:
        DivergenceError: a norm is not finite.
    """
    norms = norms.double().cpu()
    if not bool(torch.isfinite(norms).all()):
        raise DivergenceError(
            "the gradients of an inner loop are not finite.",
            expected="finite numbers; no window was chosen.",
            next="lower -o algo.inner_lr or -o algo.pixel_lr.",
        )
    chances = torch.softmax(STAGES[stage] * norms, 0)
    start = int(torch.multinomial(chances, 1, generator=generator))
    length = int(window_lengths(norms, window=window, spread=spread)[start])
    return min(start, len(norms) - length), length
