"""The two parts of an implicit hypergradient: what is direct, and what the inner solution adds.

Source: Loo et al. 2023 (RCIG, arXiv:2302.06755) and its published code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distill_core.plugin import Batch, SyntheticDataset, read


class Direct(NamedTuple):
    """The outer loss at a fixed tangent, and its derivatives.

    Attributes:
        loss: with what the margin takes off, a scalar on the device.
        right: how many images of the real batch were told right, a scalar on the device.
        items: in images and labels of the synthetic items.
        tangent: (P,) in the tangent.
        log_temperature: in the logarithm of the temperature.
    """

    loss: Tensor
    right: Tensor
    items: Batch
    tangent: Tensor
    log_temperature: Tensor


def leave_both(
    synthetic: SyntheticDataset, expanded: Batch, direct: Batch, implicit: Batch
) -> float:
    """Leave the sum of both gradients in `.grad`, and return the smallest scale.

    In every parameter the implicit one is scaled down to the norm of the direct one; where it is
    not finite it is left out.
    """
    parameters = [p for group in synthetic.groups().values() for p in group]
    places = [place for place, part in enumerate(expanded) if part.requires_grad]
    made = [expanded[place] for place in places]

    def through(items: Batch) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            made, parameters, [items[p] for p in places], retain_graph=True, materialize_grads=True
        )

    smallest = 1.0
    pairs = list(zip(through(direct), through(implicit), strict=True))
    found = read(
        *(each for one, other in pairs
          for each in (torch.isfinite(other).all(), one.norm(), other.norm()))
    )  # fmt: skip
    for place, (parameter, (one, other)) in enumerate(zip(parameters, pairs, strict=True)):
        finite, direct_norm, implicit_norm = found[3 * place : 3 * place + 3]
        scale = min(1.0, direct_norm / max(implicit_norm, 1e-30)) if finite else 0.0
        parameter.grad = one + scale * other if finite else one
        smallest = min(smallest, scale)
    return smallest
