"""Whether items are cut from the canvases is found some at a time."""

from __future__ import annotations

import torch

from distill_core.artefact import packing
from tests.distill_core.largest import Results


def test_the_last_of_many_items_decides_too() -> None:
    start = torch.arange(600) % 5
    side = start[:, None] + torch.arange(8)
    pixels = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    tables = {"pixels": pixels, "canvas": torch.zeros(600).int(), "rows": side, "cols": side}
    images = packing.items(tables)
    with Results() as results:
        assert packing._are_cut(images, tables)
    assert max(results.sizes) < images.numel() / 2
    images[-1, 0, 0, 0] += 1
    assert not packing._are_cut(images, tables)
