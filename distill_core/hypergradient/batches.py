"""The batches of one inner loop: drawn once, before anything runs, and given out step by step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from distill_core.augment import Augmentation, Draw
from distill_core.geometry import Boxes
from distill_core.hypergradient.plan import Plan
from distill_core.streams import Streams
from distill_core.synthetic import Batch, SyntheticDataset
from distill_core.transfer import all_to_device


class InnerBatches:
    """Synthetic training batches, augmented; calling it with a step gives the batch of that step.

    All draws are kept, and sent to the device together, so the same step gives the same batch
    again. All items are expanded once and then only looked up; gradients are collected in the
    items and go back through the expansion once, in `flush`. Boxes that are no items are expanded
    when their step comes, and send their gradients back at once.

    Args:
        synthetic: where images and labels come from.
        boxes: the boxes of every step.
        draws: the augmentation of every step.
    """

    def __init__(
        self, synthetic: SyntheticDataset, boxes: Sequence[Boxes], draws: Sequence[Draw]
    ) -> None:
        self._synthetic = synthetic
        self._boxes = boxes
        self._draws = draws
        self._expanded: Batch | None = None
        self._items: Batch | None = None
        self._uploaded_index: list[Tensor] | None = None
        self._uploaded_draws: list[Tensor] | None = None

    @staticmethod
    def draw(
        synthetic: SyntheticDataset,
        *,
        size: int,
        steps: int,
        augmentation: Augmentation,
        rng: Streams,
        balanced: bool = False,
    ) -> InnerBatches:
        """Draw the batches of an inner loop from the streams "draw" and "augment".

        Args:
            synthetic: the dataset; every step draws from it anew, without replacement.
            size: images per step; all of them where there are fewer.
            steps: number of steps.
            augmentation: drawn for every step.
            rng: the run's streams.
            balanced: see `SyntheticDataset.draw`.
        """
        hw = synthetic.spec.image_shape[1:]
        # Worked out once for all steps: it expands all items and waits for the device.
        weights = synthetic.balance() if balanced and size < len(synthetic) else None
        boxes = [synthetic.draw(size, generator=rng["draw"], weights=weights) for _ in range(steps)]
        draws = [augmentation.draw(len(drawn), hw, generator=rng["augment"]) for drawn in boxes]
        return InnerBatches(synthetic, boxes, draws)

    @staticmethod
    def passes(
        synthetic: SyntheticDataset,
        *,
        size: int,
        steps: int,
        augmentation: Augmentation,
        rng: Streams,
    ) -> InnerBatches:
        """Draw the batches of an inner loop that goes through all items in shuffled passes.

        Args:
            synthetic: the dataset.
            size: images per step; the last step of a pass has what is left.
            steps: number of steps.
            augmentation: drawn for every step.
            rng: the run's streams; read are "draw" and "augment".
        """
        hw = synthetic.spec.image_shape[1:]
        boxes = list(islice(synthetic.batches(size, generator=rng["draw"]), steps))
        draws = [augmentation.draw(len(drawn), hw, generator=rng["augment"]) for drawn in boxes]
        return InnerBatches(synthetic, boxes, draws)

    def __len__(self) -> int:
        return len(self._boxes)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step, differentiable where gradients are on."""
        batch = self._plain(step)
        if self._uploaded_draws is None:
            values = [draw.values.to(batch.images.dtype) for draw in self._draws]
            self._uploaded_draws = all_to_device(values, batch.images.device)
        draw = Draw(self._draws[step].operation, self._uploaded_draws[step])
        return Batch(Augmentation.apply(batch.images, draw), batch.labels)

    def plan(self) -> Plan | None:
        """Return what all steps train on; None where some box is no item, so nothing is known of
        its image before its step. Gradients that the plan's items collect are passed on by
        `flush`."""
        if not all(self._are_items):
            return None
        return Plan(self._all_items(), [boxes.item for boxes in self._boxes], self._draws)

    def flush(self) -> None:
        """Pass the gradients that items have collected on to pixels and labels."""
        if self._expanded is None or self._items is None:
            return
        grads = [item.grad for item in self._items]
        made = [part for part, grad in zip(self._expanded, grads, strict=True) if grad is not None]
        self._expanded = self._items = None
        if made:
            torch.autograd.backward(made, [grad for grad in grads if grad is not None])

    def _plain(self, step: int) -> Batch:
        if not self._are_items[step]:
            return self._synthetic.at(self._boxes[step])
        items = self._all_items()
        if torch.equal(self._boxes[step].item, torch.arange(len(self._synthetic))):
            return items
        if self._uploaded_index is None:
            index = [boxes.item for boxes in self._boxes]
            self._uploaded_index = all_to_device(index, items.images.device)
        return Batch(*(part.index_select(0, self._uploaded_index[step]) for part in items))

    @cached_property
    def _are_items(self) -> list[bool]:
        return [not bool((boxes.item < 0).any()) for boxes in self._boxes]

    def _all_items(self) -> Batch:
        """All items as leaves of the graph, which collect gradients."""
        if self._items is None:
            with torch.enable_grad():
                self._expanded = self._synthetic.all()
            self._items = Batch(
                *(made.detach().requires_grad_(made.requires_grad) for made in self._expanded)
            )
        return self._items
