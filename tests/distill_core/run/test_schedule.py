"""Falling learning rates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from distill_core.run.loop import OuterLoop
from distill_core.run.schedule import RateSchedule
from tests.distill_core.small_run import small_assembly


def test_rates_are_scaled_from_where_they_began() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, (0.4, 0.1), strict=True)]
    optimizer = torch.optim.Adam(groups)
    schedule = RateSchedule(optimizer, "linear")
    for done, expected in ((0.0, [0.4, 0.1]), (0.5, [0.2, 0.05]), (0.25, [0.3, 0.075])):
        schedule.apply(done)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)


def test_a_run_lowers_its_rates_and_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = OuterLoop(small_assembly(steps=4, lr_decay="linear"), tmp_path / "whole")
    seen = []
    while whole.step < 4:
        whole._outer_step()
        seen.append(whole.optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([seen[0], 0.75 * seen[0], 0.5 * seen[0], 0.25 * seen[0]])
    first = OuterLoop(small_assembly(steps=4, lr_decay="linear"), tmp_path / "first")
    first._outer_step()
    first._outer_step()
    second = OuterLoop(small_assembly(steps=4, lr_decay="linear"), tmp_path / "second")
    second.load_state_dict(first.state_dict())
    second._outer_step()
    second._outer_step()
    for one, other in zip(
        whole.assembly.synthetic.parameters(), second.assembly.synthetic.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_without_decay_nothing_changes(tmp_path: Path) -> None:
    loop = OuterLoop(small_assembly(steps=3), tmp_path)
    before = [group["lr"] for group in loop.optimizer.param_groups]
    loop._outer_step()
    loop._outer_step()
    assert [group["lr"] for group in loop.optimizer.param_groups] == before
