"""Divergence: numbers that are not finite, and going back (`run.on_divergence = halve-lr`).

Two earlier states are kept in memory and in the checkpoint. Only the count of outer steps decides
when one is taken, so a run that goes back is as repeatable as one that does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill_core.config.run_config import RunConfig
from distill_core.contracts.algorithm import DivergenceError, HypergradientError
from distill_core.contracts.transfer import read
from distill_core.system.state_tree import copied
from registry.options import marked

EVERY = 20  # outer steps between kept states
EARLIER = 2  # states that are kept
LIMIT = 8  # times that the rates are halved, to 1/256 of the configured ones


def smaller(config: RunConfig) -> str:
    """Return what to do where numbers are not finite.

    >>> from distill_core.builtin.algorithms.matching.options import DmOptions
    >>> config = RunConfig.model_construct(algo="dm", options={"algo": DmOptions()})
    >>> smaller(config).split(", or")[0]
    'start again with smaller learning rates (-o algo.pixel_lr)'
    """
    rates = ", ".join(f"-o algo.{name}" for name in marked(config.options["algo"], "outer_rate"))
    return (
        "start again with smaller learning rates "
        f"({rates or f'`distill show algorithm {config.algo}` shows its options'}), or look at the "
        "last good state: `distill evaluate` reads the run directory."
    )


def check_loss(metrics: Mapping[str, float], *, step: int, config: RunConfig) -> None:
    """Refuse an outer loss that is not finite, though its hypergradient may be.

    Args:
        metrics: of an outer step, with "loss"; without one nothing is refused.
        step: outer steps before this one.
        config: of the run, for messages.

    Raises:
        DivergenceError: naming the step.
    """
    loss = float(metrics.get("loss", 0.0))
    if not math.isfinite(loss):
        raise DivergenceError(
            f"the loss of outer step {step + 1} is {loss}.",
            expected="a finite number; the update was not made.",
            next=smaller(config),
        )


def check_hypergradients(
    groups: Mapping[str, Sequence[nn.Parameter]], *, step: int, config: RunConfig
) -> dict[str, float]:
    """Refuse a hypergradient that is not finite, or whose norm is not, or that is missing.

    An optimizer that squares it, as Adam does, would get infinite moments, and never move again.

    Args:
        groups: the parameters, by name of the group, with their hypergradient in `.grad`.
        step: outer steps before this one; only in the first one it can be missing.
        config: of the run, for messages.

    Returns:
        The Euclidean norm of each group's hypergradient, as the outer optimizer gets it.

    Raises:
        DivergenceError: naming the step and the group, where it is not finite or too large.
        HypergradientError: the same, where it is missing or zero.
    """
    gradients = {
        name: [p.grad for p in parameters if p.grad is not None]
        for name, parameters in groups.items()
    }
    there = _each(gradients, lambda gradient: gradient != 0, torch.any) if step == 0 else {}
    each = _each(gradients, lambda gradient: gradient, torch.linalg.vector_norm)
    norms = {name: math.hypot(*each[name]) for name in groups}
    for name in groups:
        if not math.isfinite(norms[name]):  # as it is not where a number of it is not
            finite = all(_each(gradients, torch.isfinite, torch.all)[name])
            fault = "too large: its norm is not finite" if finite else "not finite"
            raise DivergenceError(
                f"the hypergradient of group '{name}' in outer step {step + 1} is {fault}.",
                expected="finite numbers; the update was not made.",
                next=smaller(config),
            )
        if step == 0 and not any(there[name]):
            raise HypergradientError(
                f"algorithm '{config.algo}' sends no hypergradient to group '{name}'.",
                expected="a gradient in every group that is learned.",
                next="choose a labeler with fixed labels, or an algorithm that trains them.",
            )
    return norms


def check_update(
    groups: Mapping[str, Sequence[nn.Parameter]], *, step: int, config: RunConfig
) -> None:
    """Refuse parameters that are not finite after an update.

    Raises:
        DivergenceError: naming the step and the group.
    """
    finite = _each(groups, torch.isfinite, torch.all)
    for name in groups:
        if not all(finite[name]):
            raise DivergenceError(
                f"the update of group '{name}' in outer step {step + 1} is not finite.",
                expected="finite numbers; the state after this step is not saved.",
                next=smaller(config),
            )


def _each(
    groups: Mapping[str, Sequence[Tensor]],
    ask: Callable[[Tensor], Tensor],
    join: Callable[[Tensor], Tensor],
) -> dict[str, list[float]]:
    """Reduce every tensor of every group to one number, and read all numbers at once."""
    answers = iter(read(*(join(ask(each.detach())) for group in groups.values() for each in group)))
    return {name: [next(answers) for _ in group] for name, group in groups.items()}


class EarlierStates:
    """The last two of the states that were taken every `EVERY` outer steps.

    A run goes back to the older one: the trouble may have begun before the newer one.
    """

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def take(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Keep the state before a step, if one is due."""
        if not self.states or step - self.states[-1]["step"] >= EVERY:
            self.states = [*self.states[1 - EARLIER :], copied(state())]

    def back(self) -> dict[str, Any]:
        """Return a copy of the older state, and forget the newer one."""
        self.states = self.states[:1]
        state: dict[str, Any] = copied(self.states[0])
        return state


def record(step: int, back_to: int, what: str, times: int) -> dict[str, Any]:
    """Return the manifest's record of going back once."""
    return {"outer_step": step, "what": what, "back_to": back_to, "rates_times": 0.5**times}
