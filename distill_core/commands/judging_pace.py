"""How long judging takes, said after the first network of a row: large ones may take hours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
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
        then: called after each network, as `after_net` of an evaluator.
        processes: that share the networks.
    """

    tell: Callable[[str], None]
    then: AfterNet
    processes: int = 1
    _before: str = ""
    _others: int = 0  # networks that take as long as the first; 0 once it is said
    _rounds: int = 0  # that these take, each as long as the first
    _begin: float = 0.0
    _last: str = ""

    def begin(self, before: str, candidate: Candidate, options: EvaluateOptions) -> None:
        """Begin with the networks of a row: on the candidate, and on controls of its size.

        Args:
            before: what a line begins with.
            candidate: what is judged.
            options: how many networks, and whether controls are judged, too.
        """
        sets = 1 + options.controls + (options.controls and candidate.bytes is not None)
        at_once = min(self.processes, options.nets)
        self._others = sets * options.nets - at_once
        self._rounds = sets * ceil(options.nets / at_once) - 1
        self._before, self._begin = before, monotonic()
        self._last = ", then come those on the full training set" if options.controls else ""

    def after_net(self, name: str, net: int, accuracy: float) -> None:
        """Pass it on; after the first network say how long the others take."""
        self.then(name, net, accuracy)
        one, others, self._others = monotonic() - self._begin, self._others, 0
        whole = one * self._rounds
        if others and whole > QUIET_SECONDS:
            self.tell(
                f"{self._before}the first network took {duration(one)}; about {duration(whole)} "
                f"for the next {others}{self._last}"
            )
