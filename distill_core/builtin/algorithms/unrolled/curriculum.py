"""Where the differentiated window lies in the inner loop: the curricula of RaT-BPTT."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator

from distill_core.builtin.algorithms.unrolled.options import CurriculumName

_LOSS_DECAY = 0.99


@dataclass
class Curriculum:
    """Decides the steps before the window, and the window's length, for every outer step.

    - random: the offset is uniform between `min_offset` and `total - window` (the paper).
    - fixed: the window ends at `total`.
    - staged: the offset starts at `min_offset` and grows by `window`, up to `total - window`,
      whenever the moving average of the outer loss has not reached a new low for `patience`
      outer steps. The published codes look at an evaluation instead; this needs none.
    - window: no offset, a length uniform between `window` and `total`.
    - none: no offset.

    Args:
        name: which of these.
        window: differentiated steps.
        total: longest inner loop, steps.
        min_offset: smallest offset, steps.
        epoch_steps: outer steps that share a draw.
        patience: see "staged", outer steps.
    """

    name: CurriculumName
    window: int
    total: int
    min_offset: int = 0
    epoch_steps: int = 1
    patience: int = 600
    _state: dict[str, float] = field(default_factory=dict)

    def next(self, step: int, generator: Generator) -> tuple[int, int]:
        """Return offset and window of an outer step."""
        if self.name == "none":
            return 0, self.window
        if self.name == "fixed":
            return self.total - self.window, self.window
        if self.name == "staged":
            return int(self._state.get("offset", self.min_offset)), self.window
        lowest = self.min_offset if self.name == "random" else self.window
        highest = self.total - self.window if self.name == "random" else self.total
        if step % self.epoch_steps == 0 or "drawn" not in self._state:
            drawn = torch.randint(lowest, highest + 1, (), generator=generator)
            self._state["drawn"] = int(drawn)
        value = int(self._state["drawn"])
        return (value, self.window) if self.name == "random" else (0, value)

    def observe(self, loss: float) -> None:
        """Take note of an outer loss; only "staged" cares."""
        if self.name != "staged":
            return
        state = self._state
        state["loss"] = _LOSS_DECAY * state.get("loss", loss) + (1 - _LOSS_DECAY) * loss
        if state["loss"] < state.get("lowest", math.inf):
            state.update(lowest=state["loss"], waited=0)
            return
        state["waited"] = state.get("waited", 0) + 1
        if state["waited"] >= self.patience:
            offset = state.get("offset", self.min_offset) + self.window
            self._state = {"offset": min(offset, self.total - self.window)}

    def mean(self) -> tuple[float, float]:
        """Return the expected offset and window of the next outer steps."""
        if self.name == "random":
            return (self.min_offset + self.total - self.window) / 2, self.window
        if self.name == "window":
            return 0, (self.window + self.total) / 2
        return self.next(0, torch.Generator())

    def longest(self) -> int:
        """Return the longest window that can come."""
        return self.total if self.name == "window" else self.window

    def state_dict(self) -> dict[str, float]:
        """Return what must survive between outer steps."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._state = dict(state)
