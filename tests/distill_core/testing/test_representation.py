"""The checks of representations: sound ones pass, every fault is found and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from distill_core.contracts.components import Representation
from distill_core.contracts.data import DataSpec, RealData
from distill_core.contracts.geometry import Boxes, Placement
from distill_core.testing import check_representation
from distill_core.testing.small import TinyImages
from registry import InputError
from tests.distill_core.testing.faults import fault


class Sound(TinyImages):
    """Takes the budget, as the contract says."""

    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec)


def test_a_sound_representation_passes() -> None:
    check_representation(Sound, name="x")


def test_a_representation_may_refuse_a_budget_but_not_its_default() -> None:
    def refuse_some(*, spec: DataSpec, ipc: float | None) -> Representation:
        if ipc is not None:
            raise InputError("no budget.")
        return Sound(spec=spec, ipc=ipc)

    def refuse_all(*, spec: DataSpec, ipc: float | None) -> Representation:
        raise InputError("no budget.")

    check_representation(refuse_some, name="x")
    assert "refuses its own default budget: no budget." in fault(check_representation, refuse_all)


class GlobalReset(Sound):
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        self.pixels.data.normal_()


class Clockwork(Sound):
    """Reads the global seed without drawing."""

    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        self.pixels.data.fill_(float(torch.initial_seed() % 1000))


class NumpyReset(Sound):
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        self.pixels.data.fill_(0.5)
        np.random.rand()  # noqa: NPY002


class Detached(Sound):
    def expand(self, boxes: Boxes) -> Tensor:
        return super().expand(boxes).detach()


class WrongGradient(Sound):
    def expand(self, boxes: Boxes) -> Tensor:
        images = super().expand(boxes)
        return images + (images - images.detach())


class SinglePrecision(Sound):
    def expand(self, boxes: Boxes) -> Tensor:
        return super().expand(boxes).float()


class Neighbours(Sound):
    """Depends on the other boxes of the call."""

    def expand(self, boxes: Boxes) -> Tensor:
        images = super().expand(boxes)
        return images + 0.1 * images.mean()


class OtherCanvases(Sound):
    def canvases(self) -> Tensor:
        return self.pixels + 1


class Transposed(Sound):
    def expand(self, boxes: Boxes) -> Tensor:
        return super().expand(boxes).flatten(1)


class Drifting(Sound):
    def project(self) -> None:
        self.pixels.data.mul_(0.5)


class Wasteful(Sound):
    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec, ipc=ipc)
        self.register_buffer("table", torch.zeros(3))


class WastefulParameter(Sound):
    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec, ipc=ipc)
        self.table = nn.Parameter(torch.zeros(3), requires_grad=False)


class WastefulPart(Sound):
    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec, ipc=ipc)
        self.decoder = nn.ModuleList([nn.LayerNorm(3)])


class Hidden(Sound):
    """Keeps a number outside its state, as an attribute."""

    shift: Any

    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        super().reset(placement, real, generator=generator)
        self.keep(torch.randn((), generator=generator))

    def keep(self, number: Tensor) -> None:
        self.shift = number

    def expand(self, boxes: Boxes) -> Tensor:
        return super().expand(boxes) + self.shift

    def canvases(self) -> Tensor:
        return self.pixels + self.shift


class HiddenBuffer(Hidden):
    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec, ipc=ipc)
        self.register_buffer("shift", torch.zeros(()), persistent=False)

    def keep(self, number: Tensor) -> None:
        self.shift.copy_(number)


class HiddenNumber(Hidden):
    def keep(self, number: Tensor) -> None:
        self.shift = float(number)


class HiddenInClass(Hidden):
    def keep(self, number: Tensor) -> None:
        type(self).shift = number


class HiddenParameter(Hidden):
    """A parameter that PyTorch does not see, since it is in a list."""

    listed: list[nn.Parameter]

    def keep(self, number: Tensor) -> None:
        self.listed = [nn.Parameter(number)]

    @property
    def shift(self) -> Tensor:  # type: ignore[override]
        return self.listed[0]


class Unfounded(Sound):
    """Needs more of `reset` than its state."""

    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        super().reset(placement, real, generator=generator)
        self.ready = True

    def expand(self, boxes: Boxes) -> Tensor:
        assert self.ready
        return super().expand(boxes)


class FewDraws(Sound):
    def draw(self, index: Tensor, *, generator: Generator) -> Boxes:
        return self.layout.items[index[:1]]


class GlobalDraws(Sound):
    def draw(self, index: Tensor, *, generator: Generator) -> Boxes:
        return self.layout.items[torch.randint(len(self.layout.items), (len(index),))]


class ByNumber(Sound):
    """Takes the number of a box for its place; a box that is drawn has none."""

    def expand(self, boxes: Boxes) -> Tensor:
        return self.pixels[boxes.item]


class ByNumberAndStrict(ByNumber):
    def expand(self, boxes: Boxes) -> Tensor:
        return self.pixels.index_select(0, boxes.item)


class InItsOwnOrder(Sound):
    """Looks up which items are asked for, but not in which order."""

    def expand(self, boxes: Boxes) -> Tensor:
        asked = torch.isin(torch.arange(len(self.pixels)), boxes.canvas)
        return self.pixels[asked]


class OnceOnly(Sound):
    """Gives its image to the first box that asks for it; the others get black ones."""

    def expand(self, boxes: Boxes) -> Tensor:
        images = torch.zeros(len(boxes), *self.pixels.shape[1:], dtype=self.pixels.dtype)
        for row, canvas in enumerate(boxes.canvas.tolist()):
            if canvas not in boxes.canvas[:row].tolist():
                images[row] = self.pixels[canvas]
        return images


class Misnumbered(Sound):
    """Draws the neighbour of the item whose number the box has."""

    def draw(self, index: Tensor, *, generator: Generator) -> Boxes:
        items = self.layout.items
        return Boxes(items.canvas.roll(1)[index], items.yxyx[index], items.item[index])


class Peeking(Sound):
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        super().reset(placement, real, generator=generator)
        self.pixels.data[0] = real.test.take(slice(0, 1))[0]


class Empty(Sound):
    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec, ipc=ipc)
        self.pixels.requires_grad_(False)


class WidePenalty(Sound):
    def penalty(self) -> Tensor:
        return self.pixels.sum(1)


class WrongPenalty(Sound):
    def penalty(self) -> Tensor:
        return self.pixels.sum() - self.pixels.square().sum().detach()


class Doubled(Sound):
    def __init__(self, *, spec: DataSpec, ipc: float | None) -> None:
        super().__init__(spec=spec, ipc=ipc)
        self.double()


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (GlobalReset, "changes the global random state during reset"),
        (NumpyReset, "changes the global random state during reset"),
        (Detached, "cut off from its parameters"),
        (WrongGradient, "by central differences"),
        (SinglePrecision, "do not name a float type"),
        (Neighbours, "to another image when it is asked for among other boxes"),
        (OtherCanvases, "something else than its canvases show"),
        (Transposed, "expands items to (6, 192), not (6, 3, 8, 8)"),
        (Drifting, "moves again when a projected state is projected"),
        (Wasteful, "images per class where 1.0 were asked for"),
        (WastefulParameter, "images per class where 1.0 were asked for"),
        (WastefulPart, "images per class where 1.0 were asked for"),
        *(
            (hidden, "after its state was saved and loaded")
            for hidden in (Hidden, HiddenBuffer, HiddenNumber, HiddenInClass, HiddenParameter)
        ),
        (Unfounded, "cannot expand items after its state was saved and loaded, without `reset`"),
        (FewDraws, "draws another number of boxes"),
        (GlobalDraws, "changes the global random state during draw"),
        (ByNumber, "does not expand a box by its place"),
        (ByNumberAndStrict, "does not expand a box by its place"),
        (InItsOwnOrder, "to another image when it is asked for among other boxes"),
        (OnceOnly, "does not expand boxes one by one when some are asked for again"),
        (Misnumbered, "draws boxes elsewhere than the items whose number they have"),
        (Peeking, "looks at real.test"),
        (Clockwork, "gives two different results for reset from equal generators"),
        (Empty, "cut off from its parameters"),
        (WidePenalty, "has a penalty of shape (6, 8, 8), not ()"),
        (WrongPenalty, "has a penalty that has the slope"),
        (Doubled, "makes parameter 'pixels' not in float32"),
        (lambda *, spec, ipc: nn.Linear(1, 1), "is not a Representation"),
    ],
)
def test_faults_of_representations(broken: Any, sentence: str) -> None:
    text = fault(check_representation, broken)
    assert text.startswith("representation 'x' ")
    assert sentence in text
