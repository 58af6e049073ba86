"""How long judging takes, said after the first network of a row: large ones may take hours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from distill_core.config.sections import EvaluateOptions
from distill_core.evaluation.evaluate import AfterNet
from distill_core.evaluation.judge import Candidate
from distill_core.system.units import QUIET_SECONDS, duration


@dataclass
class Pace:
    """Times the first network of each row; those of the same recipe take as long.

    Attributes:
        tell: called with a line where they take long.
        told: called after each network, as `after_net` of an evaluator.
    """

    tell: Callable[[str], None]
    told: AfterNet
    _row: str = ""
    _others: int = 0  # networks that take as long as the first; 0 once it is said
    _begin: float = 0.0
    _last: str = ""

    def begin(self, row: str, candidate: Candidate, options: EvaluateOptions) -> None:
        """Begin with the networks of a row: on the candidate, and on controls of its size."""
        sets = 1 + options.controls + (options.controls and candidate.bytes is not None)
        self._row, self._others, self._begin = row, sets * options.nets - 1, monotonic()
        self._last = ", then come those on the full training set" if options.controls else ""

    def after_net(self, name: str, net: int, accuracy: float) -> None:
        """Pass it on; after the first network say how long the others take."""
        self.told(name, net, accuracy)
        one, others, self._others = monotonic() - self._begin, self._others, 0
        if others * one > QUIET_SECONDS:
            self.tell(
                f"{self._row}: the first network took {duration(one)}; about "
                f"{duration(others * one)} for the next {others}{self._last}"
            )
