"""Distances between two gradients of a network, as the gradient-matching papers define them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

_GUARD = 1e-6

Distance = Literal["layers", "mse", "cosine"]


def gradient_distance(
    found: Tensor,
    wanted: Tensor,
    places: Mapping[str, tuple[slice, torch.Size]],
    distance: Distance = "layers",
) -> Tensor:
    """Return the distance between two gradients, a scalar.

    Args:
        found: (P,), carries the gradient.
        wanted: (P,).
        places: where each parameter lies, and its shape, from `FlatModel.places`.
        distance: "layers": 1 - cosine for every row of every weight, summed. A weight's rows are
            its outputs; biases, and scales and shifts of norms, which have one dimension, are
            left out. "mse": the sum of squared differences, called so in the published code.
            "cosine": 1 - cosine of all numbers.

    Source: Zhao et al. 2021 (arXiv:2006.05929), eq. 10 and published code.

    >>> places = {"weight": (slice(0, 4), torch.Size([2, 2])), "bias": (slice(4, 5), (1,))}
    >>> one, other = torch.tensor([1.0, 0, 0, 2, 9]), torch.tensor([3.0, 0, 1, 0, -9])
    >>> round(float(gradient_distance(one, other, places)), 4)
    1.0
    """
    if distance == "mse":
        return ((found - wanted) ** 2).sum()
    if distance == "cosine":
        return _one_minus_cosine(found[None], wanted[None])
    total = found.new_zeros(())
    for place, shape in places.values():
        if len(shape) > 1:
            rows = (shape[0], -1)
            total = total + _one_minus_cosine(found[place].view(rows), wanted[place].view(rows))
    return total


def _one_minus_cosine(found: Tensor, wanted: Tensor) -> Tensor:
    """Sum over rows; a row of zeros has distance 1 and no gradient, as in the published code."""
    norms = torch.linalg.vector_norm(found, dim=1) * torch.linalg.vector_norm(wanted, dim=1)
    cosines: Tensor = (found * wanted).sum(1) / (norms + _GUARD)
    return (1 - cosines).sum()
