"""Every representation with every labeler and every algorithm: it runs, or says why not.

The components are those of the catalogues, so a new one is tried by existing. A combination does
two outer steps on a tiny problem, once in one go and once with a checkpoint in between: finite
hypergradients in every group that is learned (the engine refuses others), and the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.assemble import assemble
from distill_core.checkpoint import load_checkpoint
from distill_core.config import RunConfig
from distill_core.run import OuterLoop
from registry import ExplainedError
from tests.distill_core.small_run import installed, small_config

PLUGINS = installed()
# What makes an algorithm quick; one that is not named here is tried with its defaults.
QUICK: dict[str, dict[str, Any]] = {
    "ratbptt": {"window": 2, "total": 4, "batch": 8, "real_batch": 16, "inner_lr": 0.01},
    "bptt": {"steps": 3, "real_per_class": 4},
    "dd": {"steps": 3},
    "mtt": {"syn_steps": 3, "experts": 2},
    "ftd": {"syn_steps": 3, "experts": 2},
    "tesla": {"syn_steps": 3, "experts": 2},
    "rcig": {"pool": 2, "inner_steps": 3, "inner_lr": 0.1, "inverse_steps": 3},
}
# Whole sentences that a user may meet; anything else is a failure.
REASONS = (
    "there is nothing to learn",
    "does not learn labels, and",
)
CELLS = [
    (representation, labeler, algorithm)
    for representation in PLUGINS["representation"].names()
    for labeler in PLUGINS["labeler"].names()
    for algorithm in PLUGINS["algorithm"].names()
]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Expert trajectories are made once for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def configured(cell: tuple[str, str, str], steps: int) -> RunConfig:
    representation, labeler, algorithm = cell
    poster = {"repr": {"patches": "2x5"}} if representation == "poster" else {}
    return small_config(
        repr=representation,
        labeler=labeler,
        algo=algorithm,
        ipc=1.0 if representation != "basis" else 2.0,
        steps=steps,
        options={**poster, "algo": QUICK.get(algorithm, {})},
    )


def run(config: RunConfig, folder: Path, *, go_on: bool = False) -> OuterLoop:
    state = load_checkpoint(folder, config) if go_on else {}
    assembly = assemble(config, PLUGINS, class_grid=state.get("class_grid"))
    loop = OuterLoop(assembly, folder)
    if go_on:
        loop.load_state_dict(state)
    assert loop.run()
    return loop


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_a_combination_runs_or_says_why_not(cell: tuple[str, str, str], tmp_path: Path) -> None:
    refused: ExplainedError | None = None
    try:
        whole = run(configured(cell, 2), tmp_path / "whole")
    except ExplainedError as error:
        refused = error
    if refused is not None:
        assert any(reason in refused.what for reason in REASONS), refused
        assert refused.next
        assert not (tmp_path / "whole").exists()
        return
    run(configured(cell, 1), tmp_path / "parts")
    parts = run(configured(cell, 2), tmp_path / "parts", go_on=True)
    ends = (loop.assembly.synthetic.state_dict() for loop in (whole, parts))
    for one, other in zip(*(end.values() for end in ends), strict=True):
        assert bool(torch.isfinite(one).all())
        assert torch.equal(one, other)


def test_most_combinations_run() -> None:
    assert len(CELLS) >= 100
