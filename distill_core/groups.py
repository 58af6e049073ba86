"""The groups of trained parameters, and what the engine demands of their hypergradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill_core.assemble import Assembly
from distill_core.divergence import SMALLER, DivergenceError, HypergradientError
from distill_core.transfer import read


def trained_groups(assembly: Assembly) -> dict[str, list[nn.Parameter]]:
    """Return all trained parameters by group: "data", "labels", "algorithm"."""
    if not assembly.algorithm.learns:
        return {}
    groups = assembly.synthetic.groups()
    meta = list(assembly.algorithm.meta_parameters())
    return {**groups, "algorithm": meta} if meta else groups


def check_hypergradients(
    groups: Mapping[str, Sequence[nn.Parameter]], *, step: int, config: Any
) -> None:
    """Refuse a hypergradient that is not finite, or, in the first step, one that is missing.

    Raises:
        HypergradientError: naming the step and the group.
    """
    gradients = {
        name: [p.grad for p in parameters if p.grad is not None]
        for name, parameters in groups.items()
    }
    finite = _each(gradients, torch.isfinite, torch.all)
    there = _each(gradients, lambda gradient: gradient != 0, torch.any) if step == 0 else {}
    for name in groups:
        if not all(finite[name]):
            raise DivergenceError(
                f"the hypergradient of group '{name}' in outer step {step + 1} is not finite.",
                expected="finite numbers; the update was not made.",
                next=SMALLER,
            )
        if step == 0 and not any(there[name]):
            raise HypergradientError(
                f"algorithm '{config.algo}' sends no hypergradient to group '{name}'.",
                expected="a gradient in every group that is learned.",
                next="choose a labeler with fixed labels, or an algorithm that trains them.",
            )


def check_parameters(groups: Mapping[str, Sequence[nn.Parameter]], *, step: int) -> None:
    """Refuse parameters that an update has made infinite.

    Raises:
        DivergenceError: naming the step and the group.
    """
    finite = _each(groups, torch.isfinite, torch.all)
    for name in groups:
        if not all(finite[name]):
            raise DivergenceError(
                f"the update of group '{name}' in outer step {step + 1} is not finite.",
                expected="finite numbers; the state after this step is not saved.",
                next=SMALLER,
            )


def _each(
    groups: Mapping[str, Sequence[Tensor]],
    ask: Callable[[Tensor], Tensor],
    join: Callable[[Tensor], Tensor],
) -> dict[str, list[float]]:
    """Ask every tensor of every group, and read all answers at once."""
    answers = iter(read(*(join(ask(each.detach())) for group in groups.values() for each in group)))
    return {name: [next(answers) for _ in group] for name, group in groups.items()}
