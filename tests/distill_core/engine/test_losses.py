"""The loss with soft labels."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, one_hot

from distill_core.contracts.streams import seeded
from distill_core.engine.losses import soft_cross_entropy


@given(n=st.integers(1, 7), classes=st.integers(1, 6), seed=st.integers(0, 99))
def test_on_one_hot_labels_it_is_the_usual_loss(n: int, classes: int, seed: int) -> None:
    generator = seeded(seed)
    # In float64: a loss above 8 cannot be told apart to 1e-6 in float32.
    logits = 5 * torch.randn(n, classes, dtype=torch.float64, generator=generator)
    labels = torch.randint(classes, (n,), generator=generator)
    soft = soft_cross_entropy(logits, one_hot(labels, classes).to(logits))
    assert abs(float(soft - cross_entropy(logits, labels))) < 1e-6


def test_it_is_the_mean_of_the_classes_losses_weighted_by_the_labels() -> None:
    logits = torch.randn(4, 3, dtype=torch.float64, generator=seeded(0))
    labels = torch.rand(4, 3, dtype=torch.float64, generator=seeded(1))
    per_class = [
        cross_entropy(logits, torch.full((4,), label), reduction="none") for label in range(3)
    ]
    expected = (labels * torch.stack(per_class, 1)).sum() / 4
    assert torch.allclose(soft_cross_entropy(logits, labels), expected, rtol=1e-14)


def test_it_is_differentiable_twice_in_logits_and_labels() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, generator=seeded(0), requires_grad=True)
    labels = torch.rand(3, 4, dtype=torch.float64, generator=seeded(1), requires_grad=True)
    assert torch.autograd.gradcheck(soft_cross_entropy, (logits, labels))
    assert torch.autograd.gradgradcheck(soft_cross_entropy, (logits, labels))
