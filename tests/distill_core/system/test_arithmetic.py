"""How CUDA devices compute, by PyTorch's own settings, which exist without one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch

from distill_core.builtin.algorithms.unrolled.ratbptt import RatBptt
from distill_core.contracts.experts import ExpertRecipe
from distill_core.run.loop import OuterLoop
from distill_core.system.arithmetic import (
    WORKSPACE,
    arithmetic_of,
    convolution_precision,
    full_precision,
    inner_precision,
    set_arithmetic,
)
from distill_core.system.process import prepare
from distill_core.training.expert_cache import Experts
from tests.distill_core.fake_card import fake_card
from tests.distill_core.small_run import small_assembly, small_config

CUDNN: Any = torch.backends.cudnn
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No workspace of cuBLAS before a test, and plain settings after it."""
    monkeypatch.delenv(WORKSPACE, raising=False)
    yield
    set_arithmetic(small_config())


def state() -> dict[str, Any]:
    return {
        "convolutions": convolution_precision(),
        "recurrent": CUDNN.rnn.fp32_precision,
        "products": torch.backends.cuda.matmul.fp32_precision,
        "benchmark": CUDNN.benchmark,
        "deterministic": CUDNN.deterministic,
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fills": torch.utils.deterministic.fill_uninitialized_memory,
        "workspace": os.environ.get(WORKSPACE),
    }


PLAIN = {
    "convolutions": "ieee",
    "recurrent": "ieee",
    "products": "ieee",
    "benchmark": True,
    "deterministic": False,
    "algorithms": False,
    "warns": False,
    "fills": True,
    "workspace": None,
}
REPEATABLE = {
    **PLAIN,
    "benchmark": False,
    "deterministic": True,
    "algorithms": True,
    "warns": True,
    "fills": False,
    "workspace": ":4096:8",
}


def test_a_second_run_finds_nothing_of_the_first() -> None:
    CUDNN.conv.fp32_precision = "tf32"  # PyTorch's default, and what somebody else may have set
    for config, expected in (
        (small_config(), PLAIN),
        (small_config(deterministic=True), REPEATABLE),
        (small_config(), PLAIN),
        (small_config(tf32=True), PLAIN),
    ):
        prepare(config)
        assert state() == expected


def test_a_workspace_that_the_user_chose_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, ":16:8")
    for deterministic in (True, False):
        prepare(small_config(deterministic=deterministic))
        assert os.environ[WORKSPACE] == ":16:8"


@pytest.mark.parametrize(("tf32", "expected"), [(True, "tf32"), (False, "ieee")])
def test_rounding_ends_with_its_block(tf32: bool, expected: str) -> None:
    config = small_config(tf32=tf32)
    prepare(config)
    with suppress(KeyError), inner_precision(config):
        assert convolution_precision() == expected
        with full_precision():
            assert convolution_precision() == "ieee"
        assert convolution_precision() == expected
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        raise KeyError
    assert convolution_precision() == "ieee"


def test_outer_steps_alone_are_rounded(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not data, validation or experts, even where an outer step makes them."""
    seen: dict[str, set[str]] = {"step": set(), "validation": set(), "expert": set()}
    monkeypatch.setattr(
        "distill_core.training.expert_cache.train_expert",
        lambda *_, **__: seen["expert"].add(convolution_precision()) or torch.ones(2, 3),
    )
    config = {"tf32": True, "steps": 2, "evaluate": {"every": 1}}
    prepare(small_config(**config))
    assembly = small_assembly(**config)
    step = assembly.algorithm.outer_step

    def outer_step(*args: Any, **how: Any) -> Any:
        seen["step"].add(convolution_precision())
        return step(*args, **how)

    def validate() -> list[float]:
        seen["validation"].add(convolution_precision())
        return [0.5]

    monkeypatch.setattr(assembly.algorithm, "outer_step", outer_step)
    assert OuterLoop(assembly, tmp_path, validate=validate).run()
    with inner_precision(assembly.config):
        small_experts(assembly).snapshots(RECIPE, 0, [1], until=1)
    assert seen == {"step": {"tf32"}, "validation": {"ieee"}, "expert": {"ieee"}}


RECIPE = ExpertRecipe(lr=0.1, batch=4, augment="none")


def small_experts(assembly: Any) -> Any:
    return Experts(
        assembly.real, assembly.make_backbone, assembly.engine, backbone={}, seed=0, folder=None
    )


def test_trials_of_outer_steps_are_as_exact_as_these(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    estimate = RatBptt.estimate

    def watched(self: Any, *args: Any, **how: Any) -> Any:
        seen.append(convolution_precision())
        return estimate(self, *args, **how)

    monkeypatch.setattr(RatBptt, "estimate", watched)
    prepare(small_config())
    small_assembly(tf32=True, engine={"max_memory": "100GiB"})
    assert seen
    assert set(seen) == {"tf32"}
    assert convolution_precision() == "ieee"


@pytest.mark.parametrize(
    ("changes", "capability", "said"),
    [
        ({}, (9, 0), "float32"),
        ({"deterministic": True}, (9, 0), "float32; deterministic where PyTorch can"),
        (
            {"tf32": True},
            (8, 0),
            "TensorFloat-32 in the convolutions of outer steps, float32 elsewhere",
        ),
        (
            {"tf32": True},
            (7, 5),
            "float32: run.tf32 has no effect, since T4, compute capability 7.5, has no "
            "TensorFloat-32",
        ),
    ],
)
def test_it_is_said(
    changes: dict[str, Any],
    capability: tuple[int, int],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_card(monkeypatch, name="T4", capability=capability)
    assert arithmetic_of(small_config(**changes), CUDA) == said
    assert arithmetic_of(small_config(**changes), torch.device("cpu")) == ""
