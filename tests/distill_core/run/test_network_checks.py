from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from distill_core.config.discovery import discover
from distill_core.contracts.data import DataSpec
from distill_core.contracts.network import Backbone
from distill_core.run.assemble import assemble
from distill_core.run.network_checks import check_network
from registry import ContractError, Options
from tests.distill_core.run.test_assemble import Offers
from tests.distill_core.small_run import small_config


class Linear(Backbone):
    """Pixels as features."""

    def __init__(self, options, *, spec):
        super().__init__()
        self.head = nn.Linear(math.prod(spec.image_shape), spec.num_classes)

    def embed(self, images):
        return images.flatten(1)


def _assemble(network):
    plugins = discover(extra=[("mine", Offers("backbones", network))])
    config = small_config().model_copy(update={"backbone": "made"})
    config.options["backbone"] = Options()
    return assemble(config, plugins)


def test_a_network_that_keeps_its_contract_passes():
    _assemble(Linear)


def test_it_passes_where_gradients_are_switched_off():
    """A run makes networks there, too: the teacher of a labeler, for example."""
    spec = DataSpec("dots", ("a", "b"), (1, 4, 4), ())
    plugins = discover(extra=[("mine", Offers("backbones", Linear))])
    builder = plugins["backbone"].builder("made", {})
    with torch.no_grad():
        check_network(builder, builder(spec=spec), spec)


class Headless(Linear):
    def __init__(self, options, *, spec):
        super().__init__(options, spec=spec)
        self.head = nn.Identity()


class Three(Linear):
    def __init__(self, options, *, spec):
        super().__init__(options, spec=spec)
        self.head = nn.Linear(math.prod(spec.image_shape), 3)


class Double(Linear):
    def __init__(self, options, *, spec):
        super().__init__(options, spec=spec)
        self.double()


class Unflattened(Linear):
    def embed(self, images):
        return images.flatten(1)[:, :, None]


class Array(Linear):
    def embed(self, images):
        return images.flatten(1).numpy()


class NotANumber(Linear):
    def __init__(self, options, *, spec):
        super().__init__(options, spec=spec)
        with torch.no_grad():
            self.head.weight[0, :3] = math.nan


class Detached(Linear):
    def embed(self, images):
        return images.flatten(1).detach()


class LearnsBehindADetachedImage(Linear):
    """Its own weights have gradients, its images none."""

    def __init__(self, options, *, spec):
        super().__init__(options, spec=spec)
        self.scale = nn.Parameter(torch.ones(()))

    def embed(self, images):
        return self.scale * images.flatten(1).detach()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Headless, "has a head that is a Identity"),
        (Three, r"gives logits \(2, 3\) of 2 images"),
        (Double, r"has parameter 'head\.weight' of torch\.float64"),
        (Unflattened, r"gives features \(2, 192, 1\) of 2 images"),
        (Array, "gives features ndarray of 2 images"),
        (NotANumber, r"has parameter 'head\.weight', of which 3 numbers are not finite"),
        (Detached, "gives features without a gradient to their images"),
        (LearnsBehindADetachedImage, "gives features without a gradient to their images"),
    ],
)
def test_a_network_that_breaks_its_contract_is_named_before_any_work(network, message):
    with pytest.raises(ContractError, match=f"^backbone 'made' of mine .*{message}"):
        _assemble(network)


@pytest.mark.parametrize("what", ["frozen", "in place"])
def test_gradients_may_pass_frozen_weights_and_changes_in_place(what):
    class Passing(Linear):
        def __init__(self, options, *, spec):
            super().__init__(options, spec=spec)
            self.scale = nn.Parameter(torch.ones(()), requires_grad=what == "in place")

        def embed(self, images):
            if what == "in place":
                images -= 0.5
            return self.scale * images.flatten(1)

    _assemble(Passing)


def test_a_network_is_tried_without_a_draw():
    class Dropping(Linear):
        def embed(self, images):
            return nn.functional.dropout(images.flatten(1), training=self.training)

    before = torch.get_rng_state()
    _assemble(Dropping)
    assert torch.equal(torch.get_rng_state(), before)
