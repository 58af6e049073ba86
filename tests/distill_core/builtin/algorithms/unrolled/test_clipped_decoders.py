"""Clipping scales every number of every representation, whatever it is called."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from distill_core.config.run_config import resolve
from distill_core.run.assemble import Assembly, assemble
from tests.distill_core.artefact.stored_results import DECODERS
from tests.distill_core.small_run import SMALL, installed

RATBPTT = SMALL["options"]["algo"]
LEARNED = [name for name in installed()["representation"].names() if name != "coreset"]
CASES: list[tuple[str, dict[str, Any]]] = [
    *(
        (name, {**DECODERS.get(name, {}), **({"bases": 12} if name == "basis" else {})})
        for name in LEARNED
    ),
    ("poster", {"canvas": "bases"}),
    ("poster", {"canvas": "lowrank"}),
    ("poster", {"canvas": "frequencies", "stored": "uint4", "scales": "learned"}),
]


def stepped(representation: str, images: dict[str, Any], algo: str, **options: Any) -> Assembly:
    """Make one hypergradient."""
    kept = {part: SMALL["options"][part] for part in ("orderer", "dataset", "backbone")}
    parts = {"repr": representation, "labeler": "soft", "algo": algo, "ipc": 2}
    settings = {**SMALL, **parts, "options": {**kept, "repr": images, "algo": options}}
    assembly = assemble(resolve(settings, installed()), installed())
    assembly.algorithm.outer_step(assembly.synthetic, step=0, rng=assembly.rng)
    return assembly


def gradients(assembly: Assembly, *groups: str) -> list[torch.Tensor]:
    found = assembly.synthetic.groups()
    each = [parameter.grad for group in groups for parameter in found[group]]
    assert all(gradient is not None for gradient in each)
    return [gradient for gradient in each if gradient is not None]


@pytest.mark.parametrize(("representation", "images"), CASES)
def test_ratbptt_scales_all_of_them(representation: str, images: dict[str, Any]) -> None:
    """In the first step the average norm is the norm, so that a factor of 1/4 is just that."""
    free = gradients(stepped(representation, images, "ratbptt", **RATBPTT, clip=False), "data")
    clipped = stepped(representation, images, "ratbptt", **RATBPTT, clip_factor=0.25)
    found = gradients(clipped, "data")
    assert len(found) == sum(1 for _ in clipped.synthetic.representation.parameters())
    for one, other in zip(found, free, strict=True):
        assert bool(other.any())
        assert torch.allclose(one, other / 4)


def test_bptt_scales_all_of_them_and_the_labels() -> None:
    settings = {"steps": 2, "real_per_class": 3}
    speed = partial(stepped, "speed", DECODERS["speed"], "bptt", **settings)
    free = gradients(speed(clip_norm=None), "data", "labels")
    norm = float(torch.cat([each.flatten() for each in free]).norm())
    found = gradients(speed(clip_norm=norm / 8), "data", "labels")
    for one, other in zip(found, free, strict=True):
        assert bool(other.any())
        assert torch.allclose(one, other / 8)
