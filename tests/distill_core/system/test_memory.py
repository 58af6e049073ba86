"""Counting tensors that are alive together."""

from __future__ import annotations

import torch

from distill_core.system.memory import PeakBytes


def test_the_peak_is_of_what_is_alive_together() -> None:
    with PeakBytes() as memory:
        x = torch.ones(100)
        for _ in range(3):
            y = x * 2
            del y
        assert memory.alive == 400
    assert memory.peak == 800


def test_views_and_changes_in_place_count_nothing() -> None:
    x = torch.ones(10, 10)
    with PeakBytes() as memory:
        x.add_(1)
        kept = [x.view(100), x.t(), x[2:]]
    assert len(kept) == 3
    assert memory.peak == 0


def test_a_graph_counts_until_it_is_gone() -> None:
    x = torch.ones(100, requires_grad=True)
    with PeakBytes() as memory:
        y = x.exp().sin()
        with_graph = memory.alive
        (grad,) = torch.autograd.grad(y.sum(), x)
        del y
        assert memory.alive == grad.nbytes
    assert with_graph == 800  # the exponential is kept for the sine's derivative


def test_a_mark_begins_a_new_peak() -> None:
    with PeakBytes() as memory:
        x = torch.ones(100)
        del x
        kept = torch.ones(10)
        assert memory.mark() == 400
        assert memory.peak == kept.nbytes
        assert memory.mark() == 40
