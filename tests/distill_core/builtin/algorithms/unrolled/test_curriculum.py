"""Where the window lies."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.builtin.algorithms.unrolled.curriculum import Curriculum
from distill_core.builtin.algorithms.unrolled.lengths import CurriculumName
from distill_core.contracts.streams import seeded


@given(
    name=st.sampled_from(get_args(CurriculumName)),
    window=st.integers(1, 9),
    room=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_the_window_always_fits(name: CurriculumName, window: int, room: int, seed: int) -> None:
    spread = min(window - 1, room)
    curriculum = Curriculum(
        name, window, window + room, min_offset=room // 2, patience=1, spread=spread
    )
    generator = seeded(seed)
    norms = 3 * torch.rand(window + room, generator=generator)
    for step in range(30):
        offset, length = curriculum.next(step, generator, lambda: norms)
        assert offset >= 0
        assert length >= window - (spread if name == "adaptive" else 0) >= 1
        assert length <= curriculum.longest()
        assert offset + length <= window + room
        curriculum.observe(1.0)


def test_fixed_ends_at_the_total_and_none_starts_at_once() -> None:
    assert Curriculum("fixed", 60, 200).next(7, seeded(0)) == (140, 60)
    assert Curriculum("none", 60, 200).next(7, seeded(0)) == (0, 60)


def test_random_offsets_are_uniform_and_reach_both_ends() -> None:
    curriculum, generator = Curriculum("random", 3, 10, min_offset=2), seeded(0)
    drawn = [curriculum.next(step, generator)[0] for step in range(1200)]
    counts = [drawn.count(offset) for offset in range(2, 8)]
    assert sum(counts) == 1200
    assert min(counts) > 150
    assert sum(drawn) / 1200 == pytest.approx(curriculum.mean()[0], rel=0.03)


def test_random_windows_start_at_once() -> None:
    curriculum, generator = Curriculum("window", 3, 6), seeded(0)
    drawn = {curriculum.next(step, generator) for step in range(100)}
    assert drawn == {(0, 3), (0, 4), (0, 5), (0, 6)}
    assert curriculum.mean() == (0, 4.5)


def test_a_draw_lasts_an_epoch_and_survives_a_checkpoint() -> None:
    curriculum, generator = Curriculum("random", 1, 1000, epoch_steps=4), seeded(0)
    drawn = [curriculum.next(step, generator)[0] for step in range(6)]
    assert len(set(drawn[:4])) == 1
    assert len(set(drawn[3:])) == 2
    resumed = Curriculum("random", 1, 1000, epoch_steps=4)
    resumed.load_state_dict(curriculum.state_dict())
    assert resumed.next(6, seeded(1))[0] == drawn[5]


def test_staged_goes_on_when_the_loss_stalls() -> None:
    curriculum, generator = Curriculum("staged", 10, 35, min_offset=2, patience=3), seeded(0)
    offsets = []
    losses = [5.0, 4.0, 3.0, *[9.0] * 30]
    for step, loss in enumerate(losses):
        offsets.append(curriculum.next(step, generator)[0])
        curriculum.observe(loss)
    # Three falls, three steps without a new low; a stage later the first loss is a new low.
    assert offsets[:6] == [2] * 6
    assert offsets[6:10] == [12] * 4
    assert offsets[10:14] == [22] * 4
    assert offsets[-1] == 25


def test_staged_stays_while_the_loss_falls() -> None:
    curriculum = Curriculum("staged", 10, 35, patience=3)
    for step in range(50):
        assert curriculum.next(step, seeded(0))[0] == 0
        curriculum.observe(100.0 - step)


def test_the_mean_changes_nothing() -> None:
    for name in get_args(CurriculumName):
        curriculum = Curriculum(name, 2, 5)
        curriculum.mean()
        assert curriculum.state_dict() == {}


def test_an_adaptive_draw_serves_an_epoch_and_survives_a_checkpoint() -> None:
    asked = []

    def norms() -> torch.Tensor:
        asked.append(1)
        return torch.arange(40.0) / 20

    curriculum, generator = Curriculum("adaptive", 8, 40, epoch_steps=4, spread=3), seeded(0)
    drawn = [curriculum.next(step, generator, norms) for step in range(6)]
    assert len(asked) == 2
    assert len(set(drawn[:4])) == 1
    resumed = Curriculum("adaptive", 8, 40, epoch_steps=4, spread=3)
    resumed.load_state_dict(curriculum.state_dict())
    assert resumed.next(6, seeded(1), norms) == drawn[5]
    assert len(asked) == 2


def test_an_adaptive_curriculum_goes_through_three_stages_when_the_loss_stalls() -> None:
    curriculum = Curriculum("adaptive", 4, 20, patience=3)
    stages = []
    for loss in [5.0, 4.0, *[9.0] * 20]:
        curriculum.observe(loss)
        stages.append(int(curriculum.state_dict().get("stage", 0)))
    # Two falls, three steps without a new low; a stage later the first loss is a new low.
    assert stages == [*[0] * 4, *[1] * 4, *[2] * 14]


def test_the_dry_run_counts_as_steps_before_the_window() -> None:
    assert Curriculum("adaptive", 40, 200, spread=10).mean() == (80 + 200, 40)
    assert Curriculum("adaptive", 40, 200, epoch_steps=10, spread=10).mean() == (80 + 20, 40)
