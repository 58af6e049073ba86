"""The contract of labelers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from distill_core.contracts.components import Labeler
from distill_core.contracts.geometry import Placement
from distill_core.contracts.streams import seeded
from distill_core.testing.assertions import (
    check_gradient,
    check_parameters,
    close,
    demand,
    equal,
    perturb,
    repeatable,
    snapshot,
)
from distill_core.testing.small import demand_unseen, placements, small_data, small_task
from registry import ExplainedError


def check_labeler(make: Callable[..., Labeler], *, name: str = "unnamed") -> None:
    """Check a labeler on whole images, two images per class, a poster, and one that wraps.

    Labels have the right shape and follow the dtype of the images; they depend on boxes and
    parameters alone; the rows of a `simplex` labeler are distributions after any update followed
    by `project`; the gradient is right; the state can be saved and loaded. `start` depends on its
    arguments alone, leaves them as they are and does not look at the test images; labels are valid
    before it, and a labeler that was not started is the same after loading the state of one that
    was.

    Args:
        make: called as `make(placement=Placement)`. It may refuse some placements, not all.
        name: for the sentences of the AssertionErrors.
    """
    who = f"labeler '{name}'"
    refusals = []
    for what, placement in placements().items():
        try:
            made = make(placement=placement)
        except ExplainedError as refusal:
            refusals.append(f"{what} ({refusal.what})")
            continue
        demand(isinstance(made, Labeler), who, "is not a Labeler")
        _check(f"{who} on {what}", partial(make, placement=placement), placement)
    demand(len(refusals) < len(placements()), who, f"refuses {'; '.join(refusals)}")


def _check(who: str, new: Callable[[], Labeler], placement: Placement) -> None:
    repeatable(who, "its construction", lambda: snapshot(new()))
    boxes = placement.layout.items
    images = torch.randn(len(boxes), 3, *boxes.hw, generator=seeded(0, "images"))
    _check_rows(who, new(), new().labels(boxes, images).detach(), "before it was started")
    task = small_task(small_data(placement.num_classes))
    experts = task.experts
    assert experts is not None

    def make() -> Labeler:
        labeler = new()
        with torch.no_grad():
            labeler.start(images, real=task.real, experts=experts, tell=lambda line: None)
        return labeler

    given = images.clone()
    repeatable(who, "its start", lambda: snapshot(make()))
    demand(equal(images, given), who, "changes the images that it is started with")
    demand_unseen(who, task.real)

    def restart() -> None:
        with torch.no_grad():
            new().start(-2 * images, real=task.real, experts=experts, tell=lambda line: None)

    labeler = make()
    check_parameters(who, labeler)
    labels = repeatable(who, "labels", lambda: labeler.labels(boxes, images).detach())
    shape = (len(boxes), placement.num_classes)
    demand(tuple(labels.shape) == shape, who, f"gives labels {tuple(labels.shape)}, not {shape}")
    demand(labels.dtype == images.dtype, who, f"gives {labels.dtype} for {images.dtype} images")
    some = torch.arange(len(boxes) - 1, -1, -2)
    demand(
        close(labeler.labels(boxes[some], images[some]), labels[some]),
        who,
        "gives a box another label when it is asked for among other boxes",
    )
    _check_rows(who, labeler, labels, "at the start")
    for seed, scale in enumerate((0.01, 0.5, 100.0)):
        changed = make()
        perturb(changed, scale, seed=seed)
        _check_update(who, changed, partial(changed.labels, boxes, images), scale)
    _check_all_clipped(who, make(), lambda labeler: labeler.labels(boxes, images))
    _check_state(who, make(), new, lambda labeler: labeler.labels(boxes, images), restart)
    if any(parameter.requires_grad for parameter in labeler.parameters()):
        _check_slope(who, make().double(), lambda labeler: labeler.labels(boxes, images.double()))


def _check_rows(who: str, labeler: Labeler, labels: Tensor, when: str) -> None:
    demand(bool(torch.isfinite(labels).all()), who, f"gives labels that are not finite {when}")
    if not labeler.simplex:
        return
    demand(bool((labels >= 0).all()), who, f"says that it is on the simplex but is negative {when}")
    off = float((labels.sum(1) - 1).abs().max())
    demand(off <= 1e-5, who, f"says that it is on the simplex but a row is off by {off:.2g} {when}")


@torch.no_grad()
def _check_update(who: str, labeler: Labeler, labels: Callable[[], Tensor], scale: float) -> None:
    when = f"after an update of size {scale:g} and project()"
    labeler.project()
    _check_rows(who, labeler, labels(), when)
    once = snapshot(labeler)
    labeler.project()
    twice = snapshot(labeler)
    stays = all(close(once[key], twice[key]) for key in once)
    demand(stays, who, f"moves again when a projected state is projected, {when}")


@torch.no_grad()
def _check_all_clipped(who: str, labeler: Labeler, labels: Callable[[Labeler], Tensor]) -> None:
    for parameter in labeler.parameters():
        parameter.fill_(-1.0)
    labeler.project()
    _check_rows(who, labeler, labels(labeler), "after all parameters became -1 and project()")


def _check_state(
    who: str,
    one: Labeler,
    new: Callable[[], Labeler],
    labels: Callable[[Labeler], Tensor],
    restart: Callable[[], None],
) -> None:
    """Load the state into a labeler that was not started, after yet another one was."""
    perturb(one, 0.1, seed=1)
    found, other = labels(one).detach(), new()
    restart()
    other.load_state_dict(snapshot(one))
    demand(
        equal(found, labels(other).detach()),
        who,
        "gives other labels after its state was saved and loaded (numbers outside of it are not "
        "counted, and lost)",
    )


def _check_slope(who: str, labeler: Labeler, labels: Callable[[Labeler], Tensor]) -> None:
    # Away from zero, where clipped labels have a kink and no derivative.
    with torch.no_grad():
        for parameter in labeler.parameters():
            noise = torch.rand(parameter.shape, generator=seeded(0, "inside"))
            parameter.add_(0.2 + 0.2 * noise.to(parameter.dtype))
    check_gradient(who, labeler, lambda: labels(labeler))
