"""The batches of one inner loop: drawn once, before the loop starts, and handed out by step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from distill_core.contracts.geometry import Boxes
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import Batch, SyntheticDataset
from distill_core.contracts.transfer import all_to_device
from distill_core.data.augment import Augmentation, Draw
from distill_core.engine.drawn_steps import DrawnSteps


class InnerBatches:
    """Synthetic training batches, augmented; calling it with a step returns the batch of that step.

    All draws are kept, so the same step always returns the same batch; they go to the device
    together. All items are expanded once, then looked up. Gradients accumulate in the items, and
    `flush` sends them back through the expansion once. Boxes that are not items are expanded in
    their own step, and send their gradients back at once.

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
            size: images per step; all images if there are fewer.
            steps: number of steps.
            augmentation: drawn for every step.
            rng: the run's streams.
            balanced: see `SyntheticDataset.draw`.
        """
        hw = synthetic.spec.image_shape[1:]
        # Computed once for all steps: it expands all items and waits for the device.
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
        """Draw the batches of an inner loop that passes over all items in shuffled order.

        Args:
            synthetic: the dataset.
            size: images per step; the last step of a pass takes the rest.
            steps: number of steps.
            augmentation: drawn for every step.
            rng: the run's streams; "draw" and "augment" are read.
        """
        hw = synthetic.spec.image_shape[1:]
        boxes = list(islice(synthetic.batches(size, generator=rng["draw"]), steps))
        draws = [augmentation.draw(len(drawn), hw, generator=rng["augment"]) for drawn in boxes]
        return InnerBatches(synthetic, boxes, draws)

    def __len__(self) -> int:
        return len(self._boxes)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step, differentiable if gradients are enabled."""
        batch = self._plain(step)
        if self._uploaded_draws is None:
            values = [draw.values.to(batch.images.dtype) for draw in self._draws]
            self._uploaded_draws = all_to_device(values, batch.images.device)
        draw = Draw(self._draws[step].operation, self._uploaded_draws[step])
        return Batch(Augmentation.apply(batch.images, draw), batch.labels)

    def drawn_steps(self) -> DrawnSteps | None:
        """Return what all steps train on, or None.

        None if a box is not an item: then its image is unknown before its step. `flush` passes on
        the gradients that the items accumulate.
        """
        if not all(self._are_items):
            return None
        return DrawnSteps(self._all_items(), [boxes.item for boxes in self._boxes], self._draws)

    def flush(self) -> None:
        """Pass the gradients that the items have accumulated on to pixels and labels."""
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
        """All items as leaves of the graph, which accumulate gradients."""
        if self._items is None:
            with torch.enable_grad():
                self._expanded = self._synthetic.all()
            self._items = Batch(
                *(made.detach().requires_grad_(made.requires_grad) for made in self._expanded)
            )
        return self._items
