"""Fresh networks from explicit generators."""

from __future__ import annotations

import torch

from distill_core.backbones import new_backbone
from distill_core.contracts import Backbone
from distill_core.data import DataSpec
from distill_core.streams import seeded
from distill_core.testing.small import TinyBackbone

SPEC = DataSpec("tiny", ("a", "b"), (3, 4, 4), ())


def made(seed: int) -> Backbone:
    def make() -> Backbone:
        return TinyBackbone(spec=SPEC).eval()

    return new_backbone(make, seeded(seed), torch.device("cpu"))


def test_weights_depend_on_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = made(0)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second, other = made(0), made(1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_one_generator_gives_one_network_after_another() -> None:
    generator = seeded(0)
    first, second = (
        new_backbone(lambda: TinyBackbone(spec=SPEC), generator, torch.device("cpu"))
        for _ in range(2)
    )
    assert not torch.equal(first.head.weight, second.head.weight)


def test_it_is_in_training_mode() -> None:
    assert made(0).training
