"""The contract of representations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from distill_core.contracts.components import Representation
from distill_core.contracts.data import DataSpec, RealData
from distill_core.contracts.gather import gather_boxes
from distill_core.contracts.geometry import Boxes, Layout, Placement, layout_fault
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
from distill_core.testing.small import demand_unseen, small_data
from registry import ExplainedError, first_line

BY_PLACE = (
    "does not expand a box by its place, canvas and yxyx, but by its number, which is -1 for boxes "
    "that are drawn and are not items"
)


def check_representation(make: Callable[..., Representation], *, name: str = "unnamed") -> None:
    """Check a representation, on colour and grey images, with and without a budget.

    Layout and images fit the data; `reset`, `draw` and `expand` depend on their arguments alone;
    `expand` finds every box by its place, whatever the other boxes are; nothing looks at the test
    images; the gradients of images and penalty are right; the state can be saved and loaded;
    `project` is idempotent; the pixels keep to the budget.

    Args:
        make: called as `make(spec=DataSpec, ipc=float | None)`. It may refuse a budget.
        name: for the sentences of the AssertionErrors.
    """
    who = f"representation '{name}'"
    for channels, ipc in ((3, None), (1, 1.0)):
        real = small_data(channels=channels)
        try:
            _check(who, partial(make, spec=real.spec, ipc=ipc), real, ipc)
        except ExplainedError as refusal:
            demand(ipc is not None, who, f"refuses its own default budget: {refusal.what}")


def _check(who: str, make: Callable[[], Representation], real: RealData, ipc: float | None) -> None:
    representation = make()
    demand(isinstance(representation, Representation), who, "is not a Representation")
    made = repeatable(who, "its construction", lambda: snapshot(make()))
    demand(bool(made), who, "stores nothing: it has no parameters and no persistent buffers")
    check_layout(who, representation.layout, real.spec)
    placement = _placement(representation.layout)

    def start() -> dict[str, Tensor]:
        with torch.no_grad():
            representation.reset(placement, real, generator=seeded(0, "reset"))
        return snapshot(representation)

    state = repeatable(who, "reset", start)
    demand(state.keys() == made.keys(), who, "has other state after reset than before")
    check_parameters(who, representation)
    _check_budget(who, state, real.spec, ipc)
    _check_images(who, representation, real.spec)
    _check_state(who, representation, make, placement, real)
    if list(representation.parameters()):
        exact = representation.double()
        # The first item three times: what is learned from it adds up.
        boxes = exact.layout.items
        again = boxes[torch.cat([torch.arange(len(boxes)), torch.zeros(2).long()])]
        check_gradient(who, exact, lambda: exact.expand(again))
        _check_penalty(who, exact)
    _check_projection(who, make())
    demand_unseen(who, real)


def check_layout(who: str, layout: Layout, spec: DataSpec) -> None:
    """Check that a layout holds together: boxes on canvases, cells for all classes."""
    rows, cols = layout.grid_shape
    demand(
        rows * cols == spec.num_classes,
        who,
        f"has a {rows}x{cols} grid for {spec.num_classes} classes",
    )
    fault = layout_fault(layout)
    demand(fault is None, who, fault or "")


def _plain(boxes: Boxes) -> tuple[Tensor, Tensor, Tensor]:
    return boxes.canvas, boxes.yxyx, boxes.item


def _placement(layout: Layout) -> Placement:
    count = layout.grid_shape[0] * layout.grid_shape[1]
    order = torch.randperm(count, generator=seeded(0, "class grid"))
    return Placement(layout, order.reshape(layout.grid_shape))


def _check_budget(who: str, state: dict[str, Tensor], spec: DataSpec, ipc: float | None) -> None:
    stored = sum(tensor.numel() for tensor in state.values())
    channels, h, w = spec.image_shape
    used = stored / (channels * h * w * spec.num_classes)
    demand(
        ipc is None or used <= ipc * (1 + 1e-9),
        who,
        f"stores {used:.4f} images per class where {ipc} were asked for "
        "(every parameter and persistent buffer counts)",
    )


def _check_images(who: str, representation: Representation, spec: DataSpec) -> None:
    layout = representation.layout
    items = layout.items
    images = repeatable(who, "expand", lambda: representation.expand(items).detach())
    shape = (len(items), *spec.image_shape)
    demand(
        tuple(images.shape) == shape, who, f"expands items to {tuple(images.shape)}, not {shape}"
    )
    demand(bool(torch.isfinite(images).all()), who, "expands items to numbers that are not finite")
    some = torch.arange(len(items) - 1, -1, -2)
    demand(
        close(representation.expand(items[some]), images[some]),
        who,
        "expands a box to another image when it is asked for among other boxes",
    )
    repeated = torch.cat([some, torch.arange(min(len(items), 3)), some])
    demand(
        close(representation.expand(items[repeated]), images[repeated]),
        who,
        "does not expand boxes one by one when some are asked for again, in another order",
    )
    nameless = Boxes(items.canvas, items.yxyx, torch.full_like(items.item, -1))
    demand(close(_expanded(who, representation, nameless), images), who, BY_PLACE)
    drawn = Boxes(
        *repeatable(
            who, "draw", lambda: _plain(representation.draw(some, generator=seeded(0, "draw")))
        )
    )
    demand(len(drawn) == len(some), who, "draws another number of boxes than it is asked for")
    _check_numbers(who, drawn, items)
    shown = _expanded(who, representation, drawn)
    demand(
        tuple(shown.shape) == (len(some), *spec.image_shape),
        who,
        "expands the boxes that it draws to images of another shape",
    )
    canvases = representation.canvases()
    expected = (layout.num_canvases, spec.image_shape[0], *layout.canvas_hw)
    demand(
        tuple(canvases.shape) == expected,
        who,
        f"has canvases {tuple(canvases.shape)}, not {expected}",
    )
    if items.hw == spec.image_shape[1:]:
        demand(
            close(gather_boxes(canvases, items), images),
            who,
            "expands items to something else than its canvases show at their boxes",
        )
        if drawn.hw == items.hw:
            demand(close(gather_boxes(canvases, drawn), shown), who, BY_PLACE)


def _expanded(who: str, representation: Representation, boxes: Boxes) -> Tensor:
    """Expand boxes of which some are not items."""
    try:
        return representation.expand(boxes)
    except (IndexError, RuntimeError) as error:
        raise AssertionError(f"{who} {BY_PLACE} ({first_line(error)}).") from error


def _check_numbers(who: str, drawn: Boxes, items: Boxes) -> None:
    """A box that is drawn is the item whose number it has, or has the number -1."""
    known = drawn.item >= 0
    inside = bool((drawn.item < len(items)).all())
    demand(inside, who, "draws boxes with numbers of items that are not there")
    same = items[drawn.item[known]]
    there = torch.equal(drawn.canvas[known], same.canvas) and torch.equal(
        drawn.yxyx[known], same.yxyx
    )
    demand(
        there,
        who,
        "draws boxes elsewhere than the items whose number they have; give them the number -1",
    )


def _check_state(
    who: str,
    one: Representation,
    make: Callable[[], Representation],
    placement: Placement,
    real: RealData,
) -> None:
    """Load the state into one that was not reset, as readers do, after yet another one was."""
    perturb(one, 0.1, seed=1)
    items = one.layout.items
    images, other = one.expand(items).detach(), make()
    with torch.no_grad():
        make().reset(placement, real, generator=seeded(1, "reset"))
    other.use_whitening(real.whitening)
    other.load_state_dict(snapshot(one))
    demand(
        equal(images, _decoded(who, other)),
        who,
        "gives other images after its state was saved and loaded (numbers outside of it are not "
        "counted, and lost)",
    )


def _decoded(who: str, representation: Representation) -> Tensor:
    """Expand all items of one that has a state, and was not reset."""
    try:
        return representation.expand(representation.layout.items).detach()
    except Exception as error:
        raise AssertionError(
            f"{who} cannot expand items after its state was saved and loaded, without `reset`: "
            f"{type(error).__name__}, {first_line(error)}."
        ) from error


def _check_penalty(who: str, exact: Representation) -> None:
    penalty = exact.penalty()
    if penalty is not None:
        demand(penalty.ndim == 0, who, f"has a penalty of shape {tuple(penalty.shape)}, not ()")
        check_gradient(f"{who} has a penalty that", exact, lambda: _penalty(exact))


def _penalty(representation: Representation) -> Tensor:
    found = representation.penalty()
    assert found is not None
    return found


@torch.no_grad()
def _check_projection(who: str, representation: Representation) -> None:
    perturb(representation, 10.0, seed=2)
    representation.project()
    once = snapshot(representation)
    finite = all(bool(torch.isfinite(each).all()) for each in once.values())
    demand(finite, who, "projects to numbers that are not finite")
    representation.project()
    twice = snapshot(representation)
    stays = all(close(once[key], twice[key]) for key in once)
    demand(stays, who, "moves again when a projected state is projected")
