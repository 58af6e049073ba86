"""The groups of an outer optimizer: the learning rate of each role, and their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from distill_core.plugin import (
    InputError,
    Layout,
    SyntheticDataset,
    gradient_norm,
    normalize_by_coverage,
)


def groups_with_rates(
    groups: Mapping[str, Sequence[nn.Parameter]], rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the groups that have parameters and a rate, as PyTorch's optimizers take them.

    Args:
        groups: all trained parameters.
        rates: learning rates by name of the group; others are left out.
    """
    return [
        {"params": list(groups[name]), "lr": lr, "name": name}
        for name, lr in rates.items()
        if groups.get(name)
    ]


def learned_groups(
    groups: Mapping[str, Sequence[nn.Parameter]], rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return `groups_with_rates`, if there are pixels or labels to train.

    Raises:
        InputError: neither pixels nor labels can be trained.
    """
    if not (groups.get("data") or groups.get("labels")):
        raise InputError(
            "there is nothing to learn: neither pixels nor labels can be trained.",
            expected="a representation or a labeler with parameters.",
            next="choose another --repr or --labeler, or --algo none to judge it as it is.",
        )
    return groups_with_rates(groups, rates)


def finish_gradients(synthetic: SyntheticDataset, *, normalize: bool) -> dict[str, float]:
    """Divide the gradient of pixels by their coverage if so asked; return metrics of gradients.

    Coverage takes decoding and differentiating all items once more, so that it is left where it is
    1 everywhere.
    """
    groups = synthetic.groups()
    if normalize and not _whole_canvases(synthetic.placement.layout):
        normalize_by_coverage(groups.get("data", ()), synthetic.coverage())
    names = {"data": "grad_norm", "labels": "label_grad_norm"}
    return {
        names[name]: gradient_norm(parameters)
        for name, parameters in groups.items()
        if any(parameter.grad is not None for parameter in parameters)
    }


def _whole_canvases(layout: Layout) -> bool:
    """Say whether every item is a whole canvas of its own, so that no two share a pixel."""
    items = layout.items
    whole = torch.tensor([0, 0, *layout.canvas_hw])
    alone = len(torch.unique(items.canvas)) == len(items)
    return alone and bool((items.yxyx == whole).all())
