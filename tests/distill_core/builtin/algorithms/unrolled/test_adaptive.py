"""The adaptive window, against the formulas step by step."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from distill_core.builtin.algorithms.unrolled.adaptive import draw_window, window_lengths
from distill_core.contracts.algorithm import DivergenceError
from distill_core.contracts.streams import Streams, seeded
from tests.distill_core.builtin.algorithms.unrolled.test_ratbptt import (
    images_set,
    ratbptt,
    real_data,
)


@given(
    norms=st.lists(st.floats(0, 9, width=16), min_size=1, max_size=12),
    window=st.integers(1, 9),
    spread=st.integers(0, 8),
)
@example(norms=[2.0**-24, 2.0, 0.0], window=1, spread=1)  # changes are equal in float32 alone
def test_lengths_follow_the_rank_of_the_change(norms, window, spread) -> None:
    changes = [0.0, *(abs(b - a) for a, b in pairwise(map(np.float32, norms)))]
    found = window_lengths(torch.tensor(norms), window=window, spread=spread).tolist()
    for change, length in zip(changes, found, strict=True):
        rank = sorted(changes).index(change)
        assert length == window - spread + math.floor(2 * spread * rank / len(norms))


@pytest.mark.parametrize(("stage", "sign"), [(0, 1), (1, 0), (2, -1)])
def test_starts_are_drawn_by_stage_and_moved_to_fit(stage: int, sign: int) -> None:
    norms = torch.tensor([2.0, 0.5, 1.0, 0.0, 1.5])
    generator, counts = seeded(0), [0] * 5
    for _ in range(1500):
        offset, length = draw_window(norms, stage=stage, window=2, spread=0, generator=generator)
        assert length == 2
        counts[offset] += 1
    weights = [math.exp(sign * float(norm)) for norm in norms]
    chances = [weight / sum(weights) for weight in weights]
    expected = [*chances[:3], chances[3] + chances[4], 0]  # a window of two starts at 3 at most
    for count, chance in zip(counts, expected, strict=True):
        assert count / 1500 == pytest.approx(chance, abs=0.04)


def test_the_length_is_that_of_the_step_that_was_drawn() -> None:
    norms = torch.tensor([0.0, 0.0, 200.0, 0.0, 150.0, 150.0])  # softmax chooses the third
    ranks = [0, 0, 4, 4, 3, 0]
    assert window_lengths(norms, window=3, spread=1).tolist() == [2 + 2 * r // 6 for r in ranks]
    found = draw_window(norms, stage=0, window=3, spread=1, generator=seeded(0))
    assert found == (2, 3)


def test_norms_that_are_not_finite_are_a_divergence() -> None:
    with pytest.raises(DivergenceError, match="gradients of an inner loop are not finite"):
        draw_window(
            torch.tensor([1.0, torch.nan]), stage=1, window=1, spread=0, generator=seeded(0)
        )


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_outer_steps_have_the_window_of_a_plain_dry_run(stage: int) -> None:
    """Adam by PyTorch on another network of the same stream; one draw of the start for a step."""
    real, total, window, spread = real_data(), 9, 4, 2
    synthetic = images_set(real)
    algorithm = ratbptt(
        real,
        curriculum="adaptive",
        total=total,
        window=window,
        spread=spread,
        augment="none",
        real_batch=8,
    )
    algorithm.load_state_dict({"curriculum.stage": stage})
    rng, chosen = Streams(5), []
    images, labels = (each.detach() for each in synthetic.all())
    for step in range(4):
        draws = copy.deepcopy(rng)
        network = algorithm.task.new_backbone(draws["backbone"])
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        norms = []
        for _ in range(total):
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            squares = sum(float(each.grad.square().sum()) for each in network.parameters())
            norms.append(math.sqrt(squares))
            optimizer.step()
        weights = torch.tensor([math.exp((1, 0, -1)[stage] * norm) for norm in norms])
        start = int(torch.multinomial(weights.double(), 1, generator=draws["curriculum"]))
        changes = [0.0, *(abs(b - a) for a, b in pairwise(norms))]
        rank = sum(change < changes[start] for change in changes)
        length = window - spread + math.floor(2 * spread * rank / total)
        metrics = algorithm.outer_step(synthetic, step=step, rng=rng)
        assert metrics["window"] == length
        assert metrics["offset"] == min(start, total - length)
        chosen.append((start, length))
    assert len(set(chosen)) > 1
