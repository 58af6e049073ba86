"""The checks of a representation's layout: every fault is found and named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distill_core.contracts.components import Representation
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Boxes, Layout
from distill_core.testing import check_representation
from distill_core.testing.small import TinyImages, poster_layout
from tests.distill_core.testing.faults import fault


def layouts() -> dict[str, tuple[Layout, str]]:
    good = poster_layout()
    items, cells = good.items, good.cells
    outside = Boxes(items.canvas, items.yxyx + 3, items.item)
    nowhere = Boxes(items.canvas + 1, items.yxyx, items.item)
    renumbered = Boxes(items.canvas, items.yxyx, items.item.flip(0))
    floats = Boxes(items.canvas, items.yxyx.float(), items.item)

    def with_(**changes: Any) -> Layout:
        return Layout(**{**vars(good), **changes})

    return {
        "outside": (with_(items=outside), "items that are empty or leave the canvas"),
        "nowhere": (with_(items=nowhere), "items on a canvas that is not there"),
        "renumbered": (with_(items=renumbered), "does not number its items"),
        "floats": (with_(items=floats), "items that are not int64"),
        "no items": (with_(items=items[:0]), "has no items"),
        "grid": (with_(grid_shape=(2, 2)), "has a 2x2 grid for 6 classes"),
        "slots": (with_(cell_slot=torch.zeros(6).long()), "leaves slots of the grid without cells"),
        "short": (with_(cell_slot=torch.arange(5)), "does not give every cell a slot"),
        "cells": (
            with_(cells=Boxes(cells.canvas, cells.yxyx - 1, cells.item)),
            "cells that are empty or leave the canvas",
        ),
    }


@pytest.mark.parametrize("case", layouts())
def test_faults_of_layouts(case: str) -> None:
    layout, sentence = layouts()[case]

    def make(*, spec: DataSpec, ipc: float | None) -> Representation:
        made = TinyImages(spec=spec)
        made.layout = layout
        return made

    assert sentence in fault(check_representation, make)
