"""The checks of labelers: sound ones pass, every fault is found and named."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from distill_core.contracts.components import Labeler
from distill_core.contracts.geometry import Boxes, Placement
from distill_core.testing import check_labeler
from distill_core.testing.small import TinyLabels
from registry import InputError
from tests.distill_core.testing.faults import fault


class SoundLabels(TinyLabels):
    """Learned labels by canvas and cell under a box's corner."""

    def __init__(self, *, placement: Placement) -> None:
        super().__init__(placement=placement, learned=True)


def test_a_sound_labeler_passes() -> None:
    check_labeler(SoundLabels, name="x")
    check_labeler(lambda *, placement: TinyLabels(placement=placement, learned=False), name="x")


class Negative(SoundLabels):
    def project(self) -> None:
        return


class Vanishing(SoundLabels):
    """Clips at 0 without a guard: a row may vanish."""

    def project(self) -> None:
        self.rows.data.clamp_(min=0)


class Unnormalised(SoundLabels):
    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        return self.rows[boxes.canvas].to(images)


class Rounded(SoundLabels):
    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        return super().labels(boxes, images).float()


class RandomStart(SoundLabels):
    def __init__(self, *, placement: Placement) -> None:
        super().__init__(placement=placement)
        self.rows.data.add_(torch.rand(self.rows.shape))


class Shared(SoundLabels):
    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        labels = super().labels(boxes, images)
        return (labels + labels.mean(0)) / 2


class Cut(SoundLabels):
    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        return super().labels(boxes, images).detach()


class Forgetful(SoundLabels):
    def __init__(self, *, placement: Placement) -> None:
        super().__init__(placement=placement)
        self.rows.data = self.rows.data.clone()

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {name: value * 0.5 + 0.1 for name, value in super().state_dict().items()}


class Started(TinyLabels):
    """Keeps the brightness of the starting images as the mass of the first class."""

    def __init__(self, *, placement: Placement) -> None:
        super().__init__(placement=placement, learned=False)

    def start(self, images: Tensor, **given: Any) -> None:
        self.rows.data[:, 0] = self.brightness(images)

    def brightness(self, images: Tensor) -> Tensor:
        return 1 + images.mean().abs()


class StartedAtRandom(Started):
    def brightness(self, images: Tensor) -> Tensor:
        return 1 + torch.rand(())


class StartedOnItsOwnGenerator(Started):
    made = torch.Generator()

    def brightness(self, images: Tensor) -> Tensor:
        return 1 + torch.rand((), generator=self.made)


class Peeking(Started):
    def start(self, images: Tensor, **given: Any) -> None:
        self.rows.data[:, 0] = 1 + len(given["real"].test)


class StartedInPlace(Started):
    def brightness(self, images: Tensor) -> Tensor:
        return 1 + images.zero_().mean()


class StartedOutsideItsState(Started):
    def start(self, images: Tensor, **given: Any) -> None:
        self.keep(self.brightness(images))

    def keep(self, number: Tensor) -> None:
        self.found: Any = number

    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        labels = super().labels(boxes, images)
        share = 1 / (2 + getattr(self, "found", 0))
        return (1 - share) * labels + share / labels.shape[1]


class StartedInABuffer(StartedOutsideItsState):
    def __init__(self, *, placement: Placement) -> None:
        super().__init__(placement=placement)
        self.register_buffer("found", torch.zeros(()), persistent=False)

    def keep(self, number: Tensor) -> None:
        self.found.copy_(number)


class StartedAsANumber(StartedOutsideItsState):
    def keep(self, number: Tensor) -> None:
        self.found = float(number)


class StartedInItsClass(StartedOutsideItsState):
    def keep(self, number: Tensor) -> None:
        type(self).found = number


class UselessBefore(Started):
    def __init__(self, *, placement: Placement) -> None:
        super().__init__(placement=placement)
        self.rows.data[:] = float("nan")

    def start(self, images: Tensor, **given: Any) -> None:
        self.rows.data[:] = self.brightness(images)


def test_labels_may_follow_from_the_starting_images() -> None:
    check_labeler(Started, name="x")


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (StartedAtRandom, "changes the global random state during its start"),
        (StartedOnItsOwnGenerator, "gives two different results for its start"),
        (Peeking, "looks at real.test"),
        (StartedInPlace, "changes the images that it is started with"),
        *(
            (hidden, "gives other labels after its state was saved and loaded")
            for hidden in (
                StartedOutsideItsState,
                StartedInABuffer,
                StartedAsANumber,
                StartedInItsClass,
            )
        ),
        (UselessBefore, "gives labels that are not finite before it was started"),
        (Negative, "is negative after an update"),
        (Vanishing, "not finite after all parameters became -1"),
        (Unnormalised, "a row is off by"),
        (Rounded, "do not name a float type"),
        (RandomStart, "changes the global random state during its construction"),
        (Shared, "another label when it is asked for among other boxes"),
        (Cut, "cut off from its parameters"),
        (Forgetful, "gives other labels after its state was saved and loaded"),
        (lambda *, placement: nn.Linear(1, 1), "is not a Labeler"),
    ],
)
def test_faults_of_labelers(broken: Any, sentence: str) -> None:
    text = fault(check_labeler, broken)
    assert text.startswith("labeler 'x' ")
    assert sentence in text


def test_a_labeler_off_the_simplex_may_say_so() -> None:
    class Free(SoundLabels):
        simplex: ClassVar[bool] = False

        def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
            return self.rows[boxes.canvas].to(images)

        def project(self) -> None:
            return

    check_labeler(Free, name="x")


def test_a_labeler_may_refuse_some_placements_not_all() -> None:
    def only_images(*, placement: Placement) -> Labeler:
        if placement.layout.num_canvases == 1:
            raise InputError("a poster.")
        return SoundLabels(placement=placement)

    def nothing(*, placement: Placement) -> Labeler:
        raise InputError("no.")

    check_labeler(only_images, name="x")
    assert "refuses one image per class (no.)" in fault(check_labeler, nothing)
