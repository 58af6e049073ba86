"""Checks of algorithms: what one returns is checked before it is used or saved."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from distill_core.run.checks import refuse
from distill_core.system.state_tree import encode


def check_metrics(who: str, found: object) -> None:
    """Refuse what is not a loss and other numbers by name.

    Raises:
        ContractError: naming the algorithm.
    """
    numbers = isinstance(found, Mapping) and all(
        isinstance(name, str) and _is_number(number) for name, number in found.items()
    )
    if not (isinstance(found, Mapping) and numbers and "loss" in found):
        shown = dict(found) if isinstance(found, Mapping) else type(found).__name__
        refuse(who, f"returns {shown} from `outer_step`", 'numbers by name, "loss" among them')


def _is_number(number: object) -> bool:
    """Return whether this is a number that fits into a float."""
    if not isinstance(number, (int, float)):
        return False
    try:
        float(number)
    except OverflowError:
        return False
    return True


def check_optimizer(
    who: str, optimizer: object, groups: Mapping[str, Sequence[nn.Parameter]]
) -> None:
    """Refuse an outer optimizer that would leave something as it is, for the whole run.

    Raises:
        ContractError: naming the algorithm.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        found = type(optimizer).__name__
        refuse(who, f"returns {found} from `outer_optimizer`", "an optimizer of PyTorch")
    if inspect.signature(optimizer.step).parameters["closure"].default is inspect.Parameter.empty:
        refuse(
            who,
            f"returns {type(optimizer).__name__} from `outer_optimizer`, which computes losses "
            "itself",
            "an optimizer whose `step()` needs the gradients alone, as Adam's",
        )
    stepped = {id(each) for group in optimizer.param_groups for each in group["params"]}
    for name, parameters in groups.items():
        if not all(id(each) in stepped for each in parameters):
            refuse(
                who,
                f"leaves group '{name}' out of its `outer_optimizer`",
                "all that is learned in it: the rest would never change",
            )


def check_state(who: str, state: object) -> None:
    """Refuse a state that no checkpoint can hold, before hours of work are in it.

    Raises:
        ContractError: naming the algorithm and the part.
    """
    try:
        encode(state, "state", {})
    except TypeError as error:
        refuse(who, f"cannot be saved: {error}", "tensors, numbers and text from `state_dict`")
    except RecursionError:
        refuse(
            who,
            "cannot be saved: its state holds itself, or is too deep",
            "tensors, numbers and text from `state_dict`",
        )
