"""The contract of backbones."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from distill_core.contracts.data import DataSpec
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import seeded
from distill_core.engine.fresh_networks import new_backbone
from distill_core.testing.assertions import (
    check_parameters,
    close,
    demand,
    equal,
    repeatable,
    snapshot,
)
from registry import ExplainedError, first_line

SHAPES = ((3, 8, 8), (1, 8, 8), (3, 32, 32))


def check_backbone(make: Callable[..., Backbone], *, name: str = "unnamed") -> None:
    """Check a network on colour and grey images of 8x8, and on colour images of 32x32.

    Features and logits have the right shapes; the initial weights come from the generator alone;
    it can be differentiated twice, in weights and images; the state can be saved and loaded.

    Args:
        make: called as `make(spec=DataSpec)`. It may refuse some image shapes, not all of them.
        name: for the sentences of the AssertionErrors.
    """
    who = f"backbone '{name}'"
    refusals = []
    for shape in SHAPES:
        spec = DataSpec("small", ("a", "b", "c", "d", "e"), shape, ())
        try:
            made = _fresh(make, spec, 0)
        except ExplainedError as refusal:
            refusals.append(f"{'x'.join(map(str, shape))} ({refusal.what})")
            continue
        demand(isinstance(made, Backbone), who, "is not a Backbone")
        _check(f"{who} on {'x'.join(map(str, shape))} images", make, spec)
    demand(len(refusals) < len(SHAPES), who, f"refuses {'; '.join(refusals)}")


def _fresh(make: Callable[..., Backbone], spec: DataSpec, seed: int) -> Backbone:
    generator = seeded(seed, "backbone")
    return new_backbone(lambda: make(spec=spec), generator, torch.device("cpu"))


def _check(who: str, make: Callable[..., Backbone], spec: DataSpec) -> None:
    repeatable(who, "its construction", lambda: snapshot(_fresh(make, spec, 0)))
    backbone = _fresh(make, spec, 0)
    check_parameters(who, backbone)
    first, second = snapshot(backbone), snapshot(_fresh(make, spec, 1))
    demand(not equal(first, second), who, "starts from the same weights whatever the generator")
    images = torch.randn(4, *spec.image_shape, generator=seeded(0, "images"))
    _check_shapes(who, backbone, images, spec)
    _check_double_backward(who, backbone, images)
    _check_state(who, backbone.eval(), _fresh(make, spec, 2).eval(), images)


def _check_shapes(who: str, backbone: Backbone, images: Tensor, spec: DataSpec) -> None:
    demand(isinstance(backbone.head, nn.Linear), who, "has a head that is not an nn.Linear")
    features = backbone.embed(images)
    shape = (len(images), backbone.head.in_features)
    demand(tuple(features.shape) == shape, who, f"embeds to {tuple(features.shape)}, not {shape}")
    backbone.eval()
    logits = backbone(images)
    wanted = (len(images), spec.num_classes)
    demand(tuple(logits.shape) == wanted, who, f"gives logits {tuple(logits.shape)}, not {wanted}")
    demand(bool(torch.isfinite(logits).all()), who, "gives logits that are not finite")
    demand(
        close(logits, backbone.head(backbone.embed(images))),
        who,
        "gives logits that are not its head on its features",
    )
    backbone.train()


def _check_double_backward(who: str, backbone: Backbone, images: Tensor) -> None:
    """A hypergradient passes through the gradient of the weights into the images."""
    # In float64, where a second derivative that is silently wrong differs from measurement noise.
    exact = copy.deepcopy(backbone).double()
    images = images[:2].double()
    start = images.clone().requires_grad_()
    try:
        (second,) = torch.autograd.grad(_steepness(exact, start), start, allow_unused=True)
    except RuntimeError as error:
        reason = first_line(error)
        raise AssertionError(f"{who} cannot be differentiated twice: {reason}.") from error
    demand(second is not None, who, "sends no second derivative to the images")
    direction = torch.randn(images.shape, generator=seeded(0, "direction")).double()
    # So small that hardly any ReLU changes its side on the way.
    step = 1e-7
    sides = [float(_steepness(exact, images + side * direction).detach()) for side in (step, -step)]
    measured = (sides[0] - sides[1]) / (2 * step)
    slope = float((second * direction).sum())
    demand(
        abs(slope - measured) <= 1e-3 * max(abs(slope), abs(measured)) + 1e-6,
        who,
        f"has the second derivative {slope:.6g} by its gradient but {measured:.6g} by central "
        "differences",
    )


def _steepness(backbone: Backbone, images: Tensor) -> Tensor:
    """Return the squared norm of the gradient of a loss in the weights."""
    weights = [each for each in backbone.parameters() if each.requires_grad]
    # Dropout, if there is any, draws the same in every call.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loss = nn.functional.cross_entropy(backbone(images), torch.arange(len(images)))
    first = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    return torch.stack([(each**2).sum() for each in first if each is not None]).sum()


@torch.no_grad()
def _check_state(who: str, one: Backbone, other: Backbone, images: Tensor) -> None:
    other.load_state_dict(snapshot(one))
    demand(
        equal(one(images), other(images)),
        who,
        "gives other logits after its state was saved and loaded",
    )
