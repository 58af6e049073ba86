from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from distill_core.data.real_budget import RealBudget, real_budget


def test_a_budget_buys_whole_images_from_one_on() -> None:
    assert real_budget(1.0, (32, 32)) == RealBudget(1, (32, 32), (32, 32))
    assert real_budget(2.99, (32, 32)) == RealBudget(2, (32, 32), (32, 32))
    assert str(real_budget(1.0, (8, 8))) == "1 real image per class, whole (1.000 IPC)"


def test_below_one_an_image_is_stored_smaller() -> None:
    assert real_budget(0.3, (8, 8)).stored_hw == (4, 4)
    assert real_budget(0.5, (32, 32)).stored_hw == (22, 22)
    assert real_budget(0.5, (32, 64)).stored_hw == (22, 45)
    assert "down-scaled to 4x4 pixels (0.250 IPC)" in str(real_budget(0.3, (8, 8)))


def test_more_images_of_a_class_are_stored_smaller() -> None:
    assert real_budget(1.0, (32, 32), per_class=4) == RealBudget(4, (16, 16), (32, 32))


@given(
    ipc=st.floats(0.001, 20),
    hw=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    per_class=st.none() | st.integers(1, 9),
)
@settings(deadline=None)
def test_a_control_keeps_to_its_budget(
    ipc: float, hw: tuple[int, int], per_class: int | None
) -> None:
    budget = real_budget(ipc, hw, per_class=per_class)
    stored = budget.per_class * math.prod(budget.stored_hw)
    is_least = 1 in budget.stored_hw
    assert stored <= ipc * math.prod(hw) * (1 + 1e-6) or is_least
    assert all(1 <= side <= whole for side, whole in zip(budget.stored_hw, hw, strict=True))
