"""Counting what autograd keeps."""

from __future__ import annotations

import torch

from distill_core.measure import SavedBytes


def test_a_tensor_saved_twice_counts_once() -> None:
    x = torch.ones(100, requires_grad=True)
    with SavedBytes() as saved:
        kept = [x.sin(), x.view(10, 10).cos()]
    assert len(kept) == 2
    assert saved.bytes == 400


def test_nothing_is_counted_outside_and_the_gradient_is_right() -> None:
    x = torch.full((5,), 3.0, requires_grad=True)
    with SavedBytes() as saved:
        y = x**2
    z = (y**2).sum()
    assert saved.bytes == 20
    z.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [108.0] * 5


def test_the_graph_of_a_gradient_counts_too() -> None:
    x = torch.ones(100, requires_grad=True)
    with SavedBytes() as once:
        torch.autograd.grad((x**3).sum(), x)
    with SavedBytes() as twice:
        kept = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    assert len(kept) == 1
    assert twice.bytes > once.bytes == 400
