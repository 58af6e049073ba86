"""The loss on real images, in chunks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from distill_core.contracts.data import Split
from distill_core.contracts.derivatives import Evaluation
from distill_core.contracts.network import FlatModel
from distill_core.contracts.streams import seeded
from distill_core.contracts.synthetic import Batch
from distill_core.data.augment import Augmentation
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.outer_loss import real_loss
from tests.distill_core.engine.small import small_model


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_it_is_the_mean_cross_entropy_and_its_gradient(chunk: int) -> None:
    model, generator = small_model(), seeded(0)
    images = torch.randn(20, 1, 2, 2, generator=generator, dtype=torch.float64)
    split = Split(images, torch.arange(20) % 3)
    index = split.draw(9, generator=generator)
    draw = Augmentation(("flip",)).draw(9, (2, 2), generator=generator)
    theta = model.theta.requires_grad_()
    logits = model.logits(theta, Augmentation.apply(images[index], draw))
    expected = cross_entropy(logits, split.labels[index])
    found = real_loss(AutogradLoss(model), theta, split, index, draw, chunk=chunk)
    assert found.loss == pytest.approx(float(expected.detach()), rel=1e-12)
    assert found.accuracy == float((logits.argmax(1) == split.labels[index]).double().mean())
    (gradient,) = torch.autograd.grad(expected, theta)
    assert torch.allclose(found.cotangent, gradient, rtol=1e-10, atol=1e-14)


class _Sizes(AutogradLoss):
    """Notes how many images it was given at a time."""

    def __init__(self, model: FlatModel) -> None:
        super().__init__(model)
        self.sizes: list[int] = []

    def evaluate(self, theta: Tensor, batch: Batch, *, retain: bool = False) -> Evaluation:
        self.sizes.append(len(batch.images))
        return super().evaluate(theta, batch, retain=retain)


@pytest.mark.parametrize(
    ("size", "chunk", "expected"), [(9, 4, [3, 3, 3]), (8, 4, [4, 4]), (11, 5, [3, 4, 4])]
)
def test_no_image_is_left_over_for_a_chunk_of_its_own(
    size: int, chunk: int, expected: list[int]
) -> None:
    loss = _Sizes(small_model())
    images = torch.randn(20, 1, 2, 2, generator=seeded(0), dtype=torch.float64)
    split = Split(images, torch.arange(20) % 3)
    index = split.draw(size, generator=seeded(1))
    draw = Augmentation(()).draw(size, (2, 2), generator=seeded(2))
    real_loss(loss, loss.model.theta, split, index, draw, chunk=chunk)
    assert loss.sizes == expected
