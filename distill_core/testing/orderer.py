"""The contract of orderers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from distill_core.contracts.components import Orderer
from distill_core.contracts.data import RealData
from distill_core.contracts.geometry import check_class_grid
from distill_core.contracts.streams import seeded
from distill_core.testing.assertions import demand, equal, repeatable
from distill_core.testing.small import demand_unseen, small_data
from registry import ExplainedError

GRIDS = ((1, 6), (6, 1), (2, 3), (3, 2), (2, 5), (1, 2), (3, 3))


def check_orderer(make: Callable[..., Orderer], *, name: str = "unnamed") -> None:
    """Check an orderer on grids of several shapes.

    It returns a permutation of the classes in the right shape, the same one from equal
    generators, changes neither the data nor the global random state, and does not look at the test
    images.

    Args:
        make: called as `make()`. The orderer may refuse some grids, not all of them.
        name: for the sentences of the AssertionErrors.
    """
    who = f"orderer '{name}'"
    demand(isinstance(make(), Orderer), who, "has no method `order`")
    refusals = []
    for shape in GRIDS:
        real = small_data(shape[0] * shape[1])
        try:
            _check(f"{who} on a {shape[0]}x{shape[1]} grid", make, real, shape)
        except ExplainedError as refusal:
            refusals.append(f"{shape[0]}x{shape[1]} ({refusal.what})")
    demand(len(refusals) < len(GRIDS), who, f"refuses every grid: {'; '.join(refusals)}")


def _check(who: str, make: Callable[..., Orderer], real: RealData, shape: tuple[int, int]) -> None:
    before = _tensors(real)

    def order() -> Tensor:
        return make().order(real, shape, generator=seeded(0, "order"))

    grid = repeatable(who, "order", order)
    demand(isinstance(grid, Tensor), who, f"returns a {type(grid).__name__}, not a tensor")
    demand(grid.dtype == torch.int64, who, f"returns {grid.dtype}, not torch.int64")
    try:
        check_class_grid(grid, shape)
    except ExplainedError as fault:
        raise AssertionError(f"{who} returns no class grid: {fault}") from None
    demand(equal(before, _tensors(real)), who, "changes the real data")
    demand_unseen(who, real)
    made = make()
    made.order(real, shape, generator=seeded(0, "order"))
    notes: Any = getattr(made, "notes", {})
    texts = isinstance(notes, Mapping) and all(
        isinstance(part, str) for pair in notes.items() for part in pair
    )
    demand(texts, who, "has `notes` that are not a mapping of text to text")


def _tensors(real: RealData) -> list[Tensor]:
    splits = (real.train, real.validation)
    return [tensor.clone() for split in splits for tensor in (split.images, split.labels)]
