"""The batches of an inner loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from distill_core.contracts.data import AUGMENTATIONS
from distill_core.contracts.geometry import Boxes
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import Batch, SyntheticDataset
from distill_core.data.augment import Augmentation
from distill_core.engine.inner_batches import InnerBatches
from distill_core.testing.small import small_data, small_synthetic

SIZES = (2, 6, 9)


def synthetic_set() -> SyntheticDataset:
    return small_synthetic(small_data(), learned_labels=True)


def some_batches(synthetic: SyntheticDataset, size: int, *, seed: int = 0) -> InnerBatches:
    return InnerBatches.draw(
        synthetic,
        size=size,
        steps=4,
        augmentation=Augmentation.named("flip_rotate", AUGMENTATIONS),
        rng=Streams(seed),
    )


def forget_items(batches: InnerBatches) -> InnerBatches:
    """The same boxes, but said to be no items, so that nothing can be looked up."""
    boxes = [replace(b, item=torch.full_like(b.item, -1)) for b in batches._boxes]
    return InnerBatches(batches._synthetic, boxes, batches._draws)


def total(batches: InnerBatches) -> Tensor:
    terms = [(b.images**3).sum() + (b.labels**2).sum() for b in map(batches, range(4))]
    return torch.stack(terms).sum()


def gradients(synthetic: SyntheticDataset, batches: InnerBatches) -> list[Tensor]:
    synthetic.zero_grad()
    total(batches).backward()  # type: ignore[no-untyped-call]
    batches.flush()
    return [p.grad.clone() for p in synthetic.parameters() if p.grad is not None]


@pytest.mark.parametrize("size", SIZES)
def test_a_step_gives_the_same_batch_again(size: int) -> None:
    synthetic = synthetic_set()
    batches, again = some_batches(synthetic, size), some_batches(synthetic, size)
    assert len(batches) == 4
    for step in range(4):
        with torch.no_grad():
            plain = batches(step)
        for batch in (batches(step), again(step)):
            assert torch.equal(plain.images, batch.images)
            assert torch.equal(plain.labels, batch.labels)
            assert batch.images.requires_grad
        assert not plain.images.requires_grad
        assert len(plain.images) == min(size, len(synthetic))
    assert not torch.equal(some_batches(synthetic, size, seed=1)(0).images, plain.images)


@pytest.mark.parametrize("size", SIZES)
def test_looking_up_equals_expanding_every_batch(size: int) -> None:
    synthetic = synthetic_set()
    looked_up = some_batches(synthetic, size)
    expanded = forget_items(looked_up)
    for step in range(4):
        for one, other in zip(looked_up(step), expanded(step), strict=True):
            assert torch.equal(one, other)
    for one, other in zip(
        gradients(synthetic, looked_up), gradients(synthetic, expanded), strict=True
    ):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


class Counting(SyntheticDataset):
    """Counts how often boxes are expanded."""

    calls = 0

    def at(self, boxes: Boxes) -> Batch:
        self.calls += 1
        return super().at(boxes)


class Drawing(Counting):
    """Draws the boxes of the first item, moved: they are no items."""

    def draw(
        self,
        size: int,
        *,
        generator: Generator,
        balanced: bool = False,
        weights: Tensor | None = None,
    ) -> Boxes:
        boxes = super().draw(size, generator=generator, balanced=balanced, weights=weights)
        return replace(boxes, item=torch.full_like(boxes.item, -1))


@pytest.mark.parametrize(("kind", "expected"), [(Counting, 1), (Drawing, 8)])
def test_items_are_expanded_once(kind: type[Counting], expected: int) -> None:
    plain = synthetic_set()
    synthetic = kind(
        plain.representation, plain.labeler, placement=plain.placement, spec=plain.spec
    )
    batches = some_batches(synthetic, 3)
    for step in range(4):
        batches(step)
        with torch.no_grad():
            batches(step)
    assert synthetic.calls == expected
