"""Checks of components: what they return is checked before any work, and before it is saved.

`distill_core.testing` checks contracts thoroughly, for authors. This is the short form, for users:
a component that breaks its contract would spoil their run silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import Tensor

from distill_core.config.advice import ways_to
from distill_core.config.run_config import RunConfig
from distill_core.contracts.algorithm import Algorithm
from distill_core.contracts.geometry import Boxes
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.streams import global_states
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.system.cached_tensors import tensor_digest
from registry import ContractError, InputError, raised_by

SOME = 256  # images that are looked at at once
TOLERANCE = 1e-4  # of the sum of a row of labels


def check_penalty(who: str, penalty: object) -> None:
    """Refuse a penalty that is no scalar; its value is not read, or a card would be waited for.

    Raises:
        ContractError: naming the representation.
    """
    if not isinstance(penalty, Tensor) or penalty.dim():
        found = tuple(penalty.shape) if isinstance(penalty, Tensor) else type(penalty).__name__
        refuse(who, f"gives {found} from `penalty`", "a tensor without dimensions, or None")


def check_traits(config: RunConfig, synthetic: SyntheticDataset, algorithm: Algorithm) -> None:
    """Check that the parts of a run can work together.

    Raises:
        InputError: they cannot.
        ContractError: the algorithm has no recipe.
    """
    if not isinstance(recipe := algorithm.recipe(), Recipe):
        refuse(
            f"algorithm '{config.algo}'",
            f"returns {type(recipe).__name__} from `recipe`",
            "a Recipe, which says how networks are trained on the result",
        )
    if algorithm.learns and not synthetic.groups():
        raise InputError(
            f"there is nothing to learn: neither representation '{config.repr}' nor labeler "
            f"'{config.labeler}' has parameters for algorithm '{config.algo}'.",
            expected="a representation or a labeler with parameters.",
            next="choose another --repr or --labeler, or --algo none to judge it as it is.",
        )
    if algorithm.needs_simplex and not synthetic.labeler.simplex:
        raise InputError(
            f"labeler '{config.labeler}' gives targets off the simplex, and algorithm "
            f"'{config.algo}' needs soft labels.",
            expected="labels with rows that are >= 0 and sum to 1.",
            next="choose another labeler, or an algorithm that accepts any target.",
        )
    if algorithm.learns and not algorithm.learns_labels and "labels" in synthetic.groups():
        fixed, learned = ways_to("fixes_labels", config), ways_to("learns_labels", config)
        ways = [*fixed, "--labeler onehot", *learned]
        raise InputError(
            f"algorithm '{config.algo}' does not learn labels, and labeler '{config.labeler}' has "
            "labels to learn.",
            expected="fixed labels, or an algorithm that learns them.",
            next=f"pass {' or '.join(ways)}.",
        )


@torch.no_grad()
def check_synthetic(
    synthetic: SyntheticDataset,
    named: Mapping[str, str],
    *,
    at_once: int | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Check the images and labels of all items.

    Args:
        synthetic: after `reset`.
        named: the names of representation and labeler in messages, with their plugins.
        at_once: items whose images are in memory together; None: all.
        dtype: that they must have; None: any, as of a run in float64 that measures rounding.

    Raises:
        ContractError: a shape or type is wrong, numbers are not finite, labels of a labeler on
            the simplex are not distributions, arguments were changed, or the global random state
            was used.
    """
    items = synthetic.placement.layout.items
    for begin in range(0, len(items), at_once or len(items)):
        boxes = items[begin : begin + at_once] if at_once else items
        _check_items(synthetic, boxes, named["representation"], named["labeler"], dtype)


def _check_items(
    synthetic: SyntheticDataset,
    boxes: Boxes,
    representation: str,
    labeler: str,
    dtype: torch.dtype | None,
) -> None:
    given, count = (boxes.canvas, boxes.yxyx, boxes.item), len(boxes)
    with raised_by(representation), watched(representation, "expand", *given):
        images = synthetic.representation.expand(boxes)
    check_numbers(representation, "images", images, (count, *synthetic.spec.image_shape), dtype)
    with raised_by(labeler), watched(labeler, "labels", *given, images):
        labels = synthetic.labeler.labels(boxes, images)
    check_numbers(labeler, "labels", labels, (count, synthetic.spec.num_classes), dtype)
    if synthetic.labeler.simplex:
        least, sums = float(labels.min()), labels.sum(1)
        if least < -TOLERANCE or bool(((sums - 1).abs() > TOLERANCE).any()):
            refuse(
                labeler,
                f"gives labels that are not distributions (smallest number {least:.3g}, sums of "
                f"rows from {float(sums.min()):.3g} to {float(sums.max()):.3g})",
                "rows that are >= 0 and sum to 1, as its trait `simplex` promises",
            )


@torch.no_grad()
def check_canvases(synthetic: SyntheticDataset, representation: str) -> None:
    """Check the canvases, of which pictures and files are made.

    Args:
        synthetic: after `reset`.
        representation: its name in messages, with its plugin.

    Raises:
        ContractError: their shape is wrong, or their numbers are not finite.
    """
    layout = synthetic.placement.layout
    shape = (layout.num_canvases, synthetic.spec.image_shape[0], *layout.canvas_hw)
    with raised_by(representation), watched(representation, "canvases"):
        canvases = synthetic.representation.canvases()
    check_numbers(representation, "canvases", canvases, shape, torch.float32)


def check_start(synthetic: SyntheticDataset, named: Mapping[str, str], *, learns: bool) -> None:
    """Check all that a run starts from.

    Args:
        synthetic: after `reset`.
        named: the names of representation and labeler in messages, with their plugins.
        learns: the algorithm learns something.

    Raises:
        ContractError: as the checks of images and labels, canvases and gradients say.
    """
    check_synthetic(synthetic, named, dtype=torch.float32)
    check_canvases(synthetic, named["representation"])
    if learns:
        check_differentiable(synthetic, named)


def check_differentiable(synthetic: SyntheticDataset, named: Mapping[str, str]) -> None:
    """Check that images and labels depend on what is learned, as autograd sees it.

    Args:
        synthetic: after `reset`.
        named: the names of representation and labeler in messages, with their plugins.

    Raises:
        ContractError: parameters are to be learned, and no image, or no label, leads to them.
    """
    groups, representation, labeler = synthetic.groups(), named["representation"], named["labeler"]
    makers = {"data": (representation, "images"), "labels": (labeler, "labels")}
    learned = {group: maker for group, maker in makers.items() if groups.get(group)}
    items = synthetic.placement.layout.items
    for place in range(len(items)):  # nearly always the first item tells
        if not learned:
            return
        boxes = items[place : place + 1]
        with torch.enable_grad():
            with raised_by(representation):
                images = synthetic.representation.expand(boxes)
            with raised_by(labeler):
                labels = synthetic.labeler.labels(boxes, images.detach())
        found = {"data": images.requires_grad, "labels": labels.requires_grad}
        learned = {group: maker for group, maker in learned.items() if not found[group]}
    for who, what in learned.values():
        refuse(
            who,
            f"gives {what} without a gradient to its parameters",
            f"{what} computed from the parameters by PyTorch, not detached",
        )


def check_numbers(
    who: str, what: str, found: object, shape: tuple[int, ...], dtype: torch.dtype | None
) -> None:
    """Refuse what is no tensor of this shape and type, None for any type, or not finite.

    Raises:
        ContractError: naming the component, and `what` it gives.
    """
    if not isinstance(found, Tensor) or tuple(found.shape) != shape:
        shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        refuse(who, f"gives {what} {shown}", f"a tensor {shape}")
    if dtype is not None and found.dtype != dtype:
        refuse(who, f"gives {what} of {found.dtype}", f"numbers of {dtype}")
    # In parts, since each takes temporaries of its size; read once, since a card is waited for.
    odd = [(~torch.isfinite(part)).sum() for part in torch.split(found, SOME)]
    if count := int(torch.stack(odd).sum()):
        refuse(who, f"gives {what} of which {count} numbers are not finite", "finite numbers")


@contextmanager
def watched(who: str, call: str, *arguments: Tensor) -> Iterator[None]:
    """Refuse a call that changes its arguments or the global random state.

    Args:
        who: the name of the component in messages.
        call: the method.
        *arguments: tensors that the method gets.

    Raises:
        ContractError: it changed an argument, or drew from the global random state.
    """
    before = [tensor_digest(each) for each in arguments]  # a copy of all images takes memory
    untouched = global_states()
    yield
    if not untouched():
        refuse(
            who,
            f"draws from the global random state in `{call}`",
            "draws from the generators that it is given, so that a seed decides everything",
        )
    if before != [tensor_digest(each) for each in arguments]:
        refuse(who, f"changes its arguments in `{call}`", "arguments as they were")


def refuse(who: str, fault: str, expected: str) -> NoReturn:
    """Refuse a component that breaks its contract.

    Raises:
        ContractError: always.
    """
    raise ContractError(
        f"{who} {fault}.",
        expected=f"{expected}.",
        next="choose another one, or tell its author: `distill_core.testing` has the whole check.",
    )
