"""Numbers that no budget counts: images and labels must be made of what is stored, alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.run.checks import SOME, refuse
from distill_core.system.units import shortened
from registry import raised_by

ROUNDING = 1e-4  # between two evaluations of the same


@torch.no_grad()
def check_counted(
    synthetic: SyntheticDataset, fresh: SyntheticDataset, named: Mapping[str, str]
) -> None:
    """Check that images and labels are made of what is stored, and so counted, alone.

    The state is loaded into parts that were never reset, as readers and resumed runs do.

    Args:
        synthetic: after `reset`.
        fresh: made as it was, on the same device, and not reset.
        named: the names of representation and labeler in messages, with their plugins.

    Raises:
        ContractError: other images or labels come of the same state, or that has changed its form.
    """
    representation, labeler = named["representation"], named["labeler"]
    parts = (
        (representation, synthetic.representation, fresh.representation),
        (labeler, synthetic.labeler, fresh.labeler),
    )
    for who, one, other in parts:
        state = one.state_dict()
        now, made = ({n: each.shape for n, each in s.items()} for s in (state, other.state_dict()))
        if now != made:
            changed = sorted({name for name, _ in now.items() ^ made.items()})
            refuse(
                who,
                f"has other state than when it was made: {shortened(changed)}",
                "parameters and buffers that are there, in their shapes, when it is made, since "
                "those are counted",
            )
        other.load_state_dict(state)
    items = synthetic.placement.layout.items
    for begin in range(0, len(items), SOME):
        boxes = items[begin : begin + SOME]
        with raised_by(representation):
            images = synthetic.representation.expand(boxes)
            _check_same(representation, "images", images, fresh.representation.expand(boxes))
        with raised_by(labeler):
            labels = synthetic.labeler.labels(boxes, images)
            _check_same(labeler, "labels", labels, fresh.labeler.labels(boxes, images))


def _check_same(who: str, what: str, found: Tensor, again: Tensor) -> None:
    least = ROUNDING * max(1.0, float(found.abs().max()))
    again = again.to(found.dtype)  # a run may have been widened since
    if not torch.allclose(found, again, rtol=0, atol=least):
        refuse(
            who,
            f"gives other {what} after its state was saved and loaded: numbers outside of it are "
            "in no budget, and lost",
            "all numbers among its parameters and persistent buffers",
        )
