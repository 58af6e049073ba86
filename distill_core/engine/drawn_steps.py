"""The steps of an inner loop, drawn before the loop starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from distill_core.contracts.synthetic import Batch
from distill_core.data.augment import MOST_VALUES, Draw


class DrawnSteps(NamedTuple):
    """What each step of an inner loop trains on.

    Attributes:
        items: images (m, C, h, w) and labels (m, K) on the device, from which steps choose.
        chosen: for each step (n,) indices of items, without repetition; on the CPU.
        draws: for each step its augmentation; on the CPU.
    """

    items: Batch
    chosen: Sequence[Tensor]
    draws: Sequence[Draw]

    @staticmethod
    def of(items: Batch, drawn: Iterable[tuple[Tensor | None, Draw]]) -> DrawnSteps:
        """Return steps that are drawn one after the other; None is all in order."""
        everything = torch.arange(len(items.images))
        steps = list(drawn)
        chosen = [everything if index is None else index for index, _ in steps]
        return DrawnSteps(items, chosen, [draw for _, draw in steps])

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return the index (T, n) and the values (T, n, p) of all T steps, padded; on the CPU."""
        index = pad_sequence(list(self.chosen), batch_first=True)
        values = torch.zeros(*index.shape, MOST_VALUES)
        for row, draw in zip(values, self.draws, strict=True):
            row[: len(draw), : draw.values.shape[1]] = draw.values
        return index, values
