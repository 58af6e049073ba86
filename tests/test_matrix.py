"""Every representation with every labeler and every algorithm: it runs, or says why not.

A combination does two outer steps on a tiny problem, and the second once more from the checkpoint
after the first: finite hypergradients in every group that is learned (the engine refuses others),
and the same bits. What is found must be what `docs/matrix.md` says.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distill_core.run.assemble import assemble
from distill_core.run.loop import OuterLoop
from registry import ExplainedError
from tests.caches import make_cache
from tests.matrix import CELLS, PAGE, PLUGINS, RUNS, Cell, configured, outcome_of, page, read, run

# Whole sentences that a user may meet; anything else is a failure.
REASONS = (
    "there is nothing to learn",
    "does not learn labels, and",
)
COMMITTED = read(PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Expert trajectories are made once for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_CACHE", str(make_cache(tmp_path_factory.mktemp("cache"))))
        yield


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_a_combination_runs_or_says_why_not(cell: Cell, tmp_path: Path) -> None:
    config, whole, parts = configured(cell, 2), tmp_path / "whole", tmp_path / "parts"
    refused: ExplainedError | None = None
    try:
        loop = OuterLoop(assemble(config, PLUGINS), whole)
        loop.run(stop=lambda: loop.step == 1)
    except ExplainedError as error:
        refused = error
    told = outcome_of(refused, cell)
    assert COMMITTED.get(cell) == told, "write the page: python -m tests.matrix"
    if refused is not None:
        assert any(reason in refused.what for reason in REASONS), refused
        assert refused.next
        assert not whole.exists()
        return
    shutil.copytree(whole, parts)
    assert loop.run()
    again = run(config, parts, go_on=True)
    ends = (each.assembly.synthetic.state_dict() for each in (loop, again))
    for one, other in zip(*(end.values() for end in ends), strict=True):
        assert bool(torch.isfinite(one).all())
        assert torch.equal(one, other)


def test_most_combinations_run() -> None:
    assert len(CELLS) >= 100


def test_a_reason_is_written_once_whatever_it_refuses() -> None:
    footnotes = {outcome.partition("Next:")[0] for outcome in COMMITTED.values()} - {RUNS}
    assert len(footnotes) == len(REASONS)


def test_the_page_has_every_combination_and_is_read_as_it_is_written() -> None:
    assert set(COMMITTED) == set(CELLS)
    assert page(COMMITTED) == PAGE.read_text(encoding="utf-8")
    assert sum(outcome == RUNS for outcome in COMMITTED.values()) > len(CELLS) / 2
