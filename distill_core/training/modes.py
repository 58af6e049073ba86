"""Training and evaluation mode of a network: what a user set for each module is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def own_modes(network: nn.Module) -> Iterator[None]:
    """Give every module its own mode back afterwards.

    `network.train(...)` would give all modules one mode, and batch normalisation that somebody
    froze with `eval()` would move again.
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
