"""FTD: MTT's step on flat experts, and an average that fresh networks judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from distill_core.builtin.algorithms.trajectories.ftd import Ftd
from distill_core.builtin.algorithms.trajectories.options import FtdOptions
from distill_core.contracts.streams import Streams, seeded
from distill_core.evaluation import evaluate
from distill_core.run.loop import OuterLoop
from distill_core.run.validation import validation_accuracies
from distill_core.training.train import train
from registry import check_options
from tests.distill_core.builtin.algorithms.trajectories.test_mtt import (
    SMALL,
    SMOOTH,
    compare,
    mtt,
    real_data,
    task,
)
from tests.distill_core.builtin.algorithms.unrolled.test_ratbptt import gradients, poster_set
from tests.distill_core.small_run import small_assembly


def ftd(**settings: Any) -> Ftd:
    options = check_options(FtdOptions, {**SMALL, **settings}, where="algo")
    made = Ftd(options, task=task(real_data()))
    made.log_rate.data = made.log_rate.data.double()
    return made


def test_its_gradient_is_exact_and_its_experts_are_others() -> None:
    algorithm = ftd(**SMOOTH)
    synthetic = poster_set(algorithm.task.real)
    compare(algorithm, synthetic)
    found, plain = gradients(synthetic), poster_set(real_data())
    mtt(real_data(), **SMOOTH).outer_step(plain, step=0, rng=Streams(0))
    assert not any(map(torch.equal, found, gradients(plain)))


@pytest.mark.parametrize(
    ("classes", "side", "expected"),
    [
        (10, 32, (50, 2, 2, 0.3, 0.9999)),
        (100, 32, (40, 3, 20, 1.0, 0.9995)),
        (200, 64, (30, 2, 10, 1.0, 0.999)),
    ],
)
def test_published_defaults(classes: int, side: int, expected: tuple[float, ...]) -> None:
    options = FtdOptions()
    found = options.resolve_defaults(num_classes=classes, side=side)
    steps = (found.syn_steps, found.expert_epochs, found.max_start, found.alpha)
    assert (*steps, options.average(classes, side)) == expected
    assert options.rho == 0.01


def small_ftd(**changes: Any) -> Any:
    settings = {"syn_steps": 2, "experts": 2, "batch": 8, "expert_batch": 8}
    return small_assembly(algo="ftd", steps=2, options={"algo": settings}, **changes)


def test_the_run_averages_unless_told_otherwise(tmp_path: Path) -> None:
    loop = OuterLoop(small_ftd(), tmp_path)
    assert loop.average is not None
    assert loop.average.ema == 0.999
    other = OuterLoop(small_ftd(ema=0.5), tmp_path)
    assert other.average is not None
    assert other.average.ema == 0.5


def test_the_average_is_judged_by_fresh_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published code goes on with the network that it trained on the images of the last step."""
    loop = OuterLoop(small_ftd(evaluate={"every_nets": 2}), tmp_path)
    loop.run()
    used: list[tuple[Tensor, Tensor]] = []

    def watched(backbone: nn.Module, images: Tensor, *rest: Any, **settings: Any) -> nn.Module:
        used.append((parameters_to_vector(backbone.parameters()).detach().clone(), images))
        return train(backbone, images, *rest, **settings)

    monkeypatch.setattr(evaluate, "train", watched)
    validation_accuracies(loop.result)
    assert loop.average is not None
    images = loop.average.synthetic.all().images
    assert not torch.equal(images, loop.assembly.synthetic.all().images)
    assert len(used) == 2
    for k, (start, trained_on) in enumerate(used):
        fresh = loop.assembly.make_backbone(seeded(loop.assembly.config.seed, "evaluate", k))
        assert torch.equal(start, parameters_to_vector(fresh.parameters()))
        assert torch.equal(trained_on, images)
