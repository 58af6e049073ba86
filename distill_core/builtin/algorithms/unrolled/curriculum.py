"""Where the differentiated window lies in the inner loop: the curricula of RaT-BPTT."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from distill_core.builtin.algorithms.unrolled.adaptive import STAGES, draw_window
from distill_core.builtin.algorithms.unrolled.lengths import CurriculumName

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
    - adaptive: offset and length follow the gradient norms of an inner loop, see `adaptive.py`. It
      has three stages and goes on to the next as "staged" does.

    Args:
        name: which of these.
        window: differentiated steps.
        total: longest inner loop, steps.
        min_offset: smallest offset, steps.
        epoch_steps: outer steps that share a draw.
        patience: see "staged", outer steps.
        spread: how much the length of an adaptive window varies, steps.
    """

    name: CurriculumName
    window: int
    total: int
    min_offset: int = 0
    epoch_steps: int = 1
    patience: int = 600
    spread: int = 0
    _state: dict[str, float] = field(default_factory=dict)

    def next(
        self, step: int, generator: Generator, norms: Callable[[], Tensor] | None = None
    ) -> tuple[int, int]:
        """Return offset and window of an outer step.

        Args:
            step: the outer step, from 0.
            generator: the source of randomness.
            norms: returns the gradient norms (total,) of an inner loop; only "adaptive" calls it.
        """
        if self.name == "adaptive":
            return self._adaptive(step, generator, norms)
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

    def _adaptive(
        self, step: int, generator: Generator, norms: Callable[[], Tensor] | None
    ) -> tuple[int, int]:
        state = self._state
        if step % self.epoch_steps == 0 or "drawn" not in state:
            assert norms is not None
            state["drawn"], state["length"] = draw_window(
                norms(),
                stage=int(state.get("stage", 0)),
                window=self.window,
                spread=self.spread,
                generator=generator,
            )
        return int(state["drawn"]), int(state["length"])

    def observe(self, loss: float) -> None:
        """Take note of an outer loss; only "staged" and "adaptive" care."""
        if self.name not in {"staged", "adaptive"}:
            return
        state = self._state
        state["loss"] = _LOSS_DECAY * state.get("loss", loss) + (1 - _LOSS_DECAY) * loss
        if state["loss"] < state.get("lowest", math.inf):
            state.update(lowest=state["loss"], waited=0)
            return
        state["waited"] = state.get("waited", 0) + 1
        if state["waited"] < self.patience:
            return
        if self.name == "adaptive":
            stage = min(state.get("stage", 0) + 1, len(STAGES) - 1)
            kept: dict[str, float] = {
                name: state[name] for name in ("drawn", "length") if name in state
            }
            self._state = {"stage": stage, **kept}
        else:
            offset = state.get("offset", self.min_offset) + self.window
            self._state = {"offset": min(offset, self.total - self.window)}

    def mean(self) -> tuple[float, float]:
        """Return the expected steps before the window and in it, of the next outer steps."""
        if self.name == "random":
            return (self.min_offset + self.total - self.window) / 2, self.window
        if self.name == "window":
            return 0, (self.window + self.total) / 2
        if self.name == "adaptive":  # the dry run is counted as steps before the window
            dry = self.total / self.epoch_steps
            return (self.total - self.window) / 2 + dry, self.window
        return self.next(0, torch.Generator())

    def longest(self) -> int:
        """Return the longest window that can come."""
        if self.name == "adaptive":
            return self.window + self.spread
        return self.total if self.name == "window" else self.window

    def state_dict(self) -> dict[str, float]:
        """Return what must survive between outer steps."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._state = dict(state)
