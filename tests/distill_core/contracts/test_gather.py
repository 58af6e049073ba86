from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill_core.contracts import gather
from distill_core.contracts.gather import gather_boxes
from distill_core.contracts.geometry import Boxes
from tests.distill_core.largest import Results


def _many() -> tuple[Tensor, Boxes]:
    """Two canvases with 600 boxes, which overlap and leave them at two sides."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(0, 12, (600, 2), generator=generator)
    canvas = torch.randint(0, 2, (600,), generator=generator)
    boxes = Boxes.of(canvas, torch.cat([starts, starts + 8], 1))
    return torch.randn(2, 3, 12, 12, generator=generator), boxes


def test_many_boxes_in_parts_and_their_derivatives_are_the_same_to_the_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, boxes = _many()
    given = torch.randn(600, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for most in (gather.SOME, 600):
        monkeypatch.setattr(gather, "SOME", most)
        pixels, along = start.clone().requires_grad_(), given.clone().requires_grad_()
        cut = gather_boxes(pixels, boxes)
        (once,) = torch.autograd.grad(cut, pixels, along, create_graph=True)
        (twice,) = torch.autograd.grad(once.square().sum(), along)
        found.append((cut, once, twice))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_functional_derivatives_go_through_many_boxes() -> None:
    single, boxes = _many()
    pixels = single.double()
    generator = torch.Generator().manual_seed(2)
    along = torch.randn(4, *pixels.shape, generator=generator, dtype=torch.float64)

    def cut(pixels: Tensor) -> Tensor:
        return gather_boxes(pixels, boxes)

    # The map is linear: its tangent is itself, its gradient of half a square what it gives back.
    found, tangent = torch.func.jvp(cut, (pixels,), (along[0],))
    assert torch.equal(found, cut(pixels))
    assert torch.equal(tangent, cut(along[0]))
    assert torch.equal(torch.func.vmap(cut)(along), torch.stack([*map(cut, along)]))
    back = torch.func.grad(lambda pixels: cut(pixels).square().sum() / 2)
    counted = torch.func.vmap(back)(along)
    ones = back(torch.ones_like(pixels))  # how many boxes cover each pixel
    torch.testing.assert_close(counted, along * ones)
    _, along_back = torch.func.jvp(back, (pixels,), (along[1],))
    torch.testing.assert_close(along_back, along[1] * ones)


def test_nothing_of_the_size_of_all_boxes_is_made_but_the_result() -> None:
    pixels, boxes = _many()
    pixels.requires_grad_()
    with Results() as results:
        found = gather_boxes(pixels, boxes)
        torch.autograd.grad(found.sum(), pixels)
    assert [size for size in results.sizes if size > found.numel() / 2] == [found.numel()]
