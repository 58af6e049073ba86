"""Where the window lies."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.builtin.algorithms.unrolled.curriculum import Curriculum
from distill_core.builtin.algorithms.unrolled.options import CurriculumName
from distill_core.contracts.streams import seeded


@given(
    name=st.sampled_from(get_args(CurriculumName)),
    window=st.integers(1, 9),
    room=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_the_window_always_fits(name: CurriculumName, window: int, room: int, seed: int) -> None:
    curriculum = Curriculum(name, window, window + room, min_offset=room // 2, patience=1)
    generator = seeded(seed)
    for step in range(30):
        offset, length = curriculum.next(step, generator)
        assert offset >= 0
        assert length >= window
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
