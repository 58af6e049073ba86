"""Components where they join a run: what they give is checked once, before any work.

`distill_core.testing` checks contracts thoroughly, for authors; this is the short form, for users,
whose run a component that breaks its contract would spoil without a word.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from distill_core.synthetic import SyntheticDataset
from registry import ContractError

TOLERANCE = 1e-4  # of the sum of a row of labels


@torch.no_grad()
def check_synthetic(synthetic: SyntheticDataset, *, representation: str, labeler: str) -> None:
    """Check images and labels of all items as they are at the start.

    Args:
        synthetic: after `reset`.
        representation: how messages name it, with its plugin.
        labeler: likewise.

    Raises:
        ContractError: shapes are not those promised, numbers are not finite, labels of a labeler
            on the simplex are no distributions, arguments were changed, or numbers were drawn
            from the global random state.
    """
    boxes = synthetic.placement.layout.items
    given = (boxes.canvas, boxes.yxyx, boxes.item)
    with _watched(representation, "expand", *given):
        images = synthetic.representation.expand(boxes)
    _check_numbers(representation, "images", images, (len(boxes), *synthetic.spec.image_shape))
    with _watched(labeler, "labels", *given, images):
        labels = synthetic.labeler.labels(boxes, images)
    _check_numbers(labeler, "labels", labels, (len(boxes), synthetic.spec.num_classes))
    if synthetic.labeler.simplex:
        least, sums = float(labels.min()), labels.sum(1)
        if least < -TOLERANCE or bool(((sums - 1).abs() > TOLERANCE).any()):
            _refuse(
                labeler,
                f"gives labels that are no distributions (smallest number {least:.3g}, sums of "
                f"rows from {float(sums.min()):.3g} to {float(sums.max()):.3g})",
                "rows that are >= 0 and sum to 1, as its trait `simplex` promises",
            )


def _check_numbers(who: str, what: str, found: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(found, Tensor) or tuple(found.shape) != shape:
        shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        _refuse(who, f"gives {what} {shown}", f"a tensor {shape}")
    if not bool(torch.isfinite(found).all()):
        count = int((~torch.isfinite(found)).sum())
        _refuse(who, f"gives {what} of which {count} numbers are not finite", "finite numbers")


@contextmanager
def _watched(who: str, call: str, *arguments: Tensor) -> Iterator[None]:
    """Refuse a call that changes its arguments or the global random state."""
    copies = [argument.clone() for argument in arguments]
    untouched = _random_states()
    yield
    if not untouched():
        _refuse(
            who,
            f"draws from the global random state in `{call}`",
            "draws from the generators that it is given, so that a seed decides everything",
        )
    for argument, copy in zip(arguments, copies, strict=True):
        if not torch.equal(argument, copy):
            _refuse(who, f"changes its arguments in `{call}`", "arguments as they were")


def _random_states() -> Callable[[], bool]:
    """Return a function that says whether nobody has drawn since."""

    def read() -> tuple[object, ...]:
        name, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global state is watched)
        torch_state = torch.get_rng_state().numpy().tobytes()
        return torch_state, name, np.asarray(keys).tobytes(), rest, random.getstate()

    before = read()
    return lambda: read() == before


def _refuse(who: str, fault: str, expected: str) -> NoReturn:
    raise ContractError(
        f"{who} {fault}.",
        expected=f"{expected}.",
        next="choose another one, or tell its author: `distill_core.testing` has the whole check.",
    )
