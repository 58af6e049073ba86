"""The state a run resumes from: what it holds, how it is saved and restored."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from distill_core.contracts.streams import streams_of_rank
from distill_core.data.identity import Identity
from distill_core.distributed.ranks import SINGLE_PROCESS, Ranks
from distill_core.run.algorithm_checks import check_optimizer
from distill_core.run.assemble import Assembly
from distill_core.run.divergence import EarlierStates
from distill_core.run.ema import MovingAverage
from distill_core.run.known_data import DATA
from distill_core.run.schedule import RateSchedule
from distill_core.system.state_tree import copied

Validate = Callable[[], Sequence[float]]
TERMS = ("protocol", "steps", "every_nets")  # of `evaluate.*`: what validation accuracies depend on


def trained_groups(assembly: Assembly) -> dict[str, list[nn.Parameter]]:
    """Return all trained parameters by group: "data", "labels", "algorithm"."""
    if not assembly.algorithm.learns:
        return {}
    groups = assembly.synthetic.groups()
    meta = list(assembly.algorithm.meta_parameters())
    return {**groups, "algorithm": meta} if meta else groups


class LoopState:
    """The state of a run in progress.

    Args:
        assembly: the parts.
        ranks: the processes of the run.
    """

    def __init__(self, assembly: Assembly, ranks: Ranks = SINGLE_PROCESS) -> None:
        self.assembly = assembly
        self.ranks = ranks
        self.rng = assembly.rng
        if not ranks.is_main:
            self.rng = streams_of_rank(assembly.config.seed, ranks.rank)
        self.since = 0
        self.groups = trained_groups(assembly)
        learns = assembly.algorithm.learns
        self.optimizer = assembly.algorithm.outer_optimizer(self.groups) if learns else None
        if learns:
            check_optimizer(assembly.named["algorithm"], self.optimizer, self.groups)
        self.schedule = RateSchedule(self.optimizer, assembly.config.lr_decay)
        ema = assembly.ema
        self.average = None if ema is None else MovingAverage(assembly.synthetic, ema)
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, Any] = {}
        self.owes_validation = False  # of the last step: the run failed before it was done
        self.divergences: list[dict[str, Any]] = []
        self.earlier = EarlierStates()
        self.saved_step: int | None = None

    @property
    def result(self) -> Assembly:
        """The parts with what the run gives: the moving average, if there is one."""
        if self.average is None:
            return self.assembly
        return replace(self.assembly, synthetic=self.average.synthetic)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on, except for the other ranks."""
        return self._state([self._own_state()])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, with any number of ranks."""
        rank = self.ranks.rank
        self._load_shared(state)
        self.seconds, self.saved_step = state["seconds"], self.step
        self.divergences = list(state.get("divergences", []))
        self.owes_validation = bool(state.get("owes_validation", False))
        self.schedule.scale = 0.5 ** len(self.divergences)
        others = state.get("others", [])  # runs of one process had no such entry at first
        known = state if rank == 0 else others[rank - 1] if rank <= len(others) else None
        self.since = int(known.get("since", 0)) if known else self.step
        self.rng = streams_of_rank(self.assembly.config.seed, rank, since=self.since)
        if known:
            self.rng.load_state_dict(known["streams"])
            if len(others) + 1 == self.ranks.size:  # or else ranks would go back to other steps
                self.earlier.states = list(known.get("snapshots", []))
        self.assembly.algorithm.load_state_dict((known or state)["algorithm"])

    def keep_if_best(self, accuracy: float, validate: Validate) -> None:
        """Keep the state as the best one if none before it was as good on the validation split.

        Args:
            accuracy: of this state.
            validate: measures the accuracies of the best state so far, if those that are known were
                measured on other terms: a run may be resumed with another `evaluate.protocol`.
        """
        options = self.assembly.config.evaluate
        terms = {name: getattr(options, name) for name in TERMS}
        if self.best and self.best.get("terms") != terms:  # earlier versions kept none
            present = self._judged()
            try:
                self._load_judged(self.best)
                again = statistics.fmean(validate())
            finally:
                self._load_judged(present)
            self.best = {**self.best, "accuracy": again, "terms": terms}
        if accuracy > self.best.get("accuracy", -1.0):
            found = {"step": self.step, "accuracy": accuracy, "terms": terms}
            self.best = {**found, **self._judged()}

    def _own_state(self) -> dict[str, Any]:
        """What differs between ranks."""
        return {**self._own_present(), "snapshots": self.earlier.states}

    def _own_present(self) -> dict[str, Any]:
        return {
            "algorithm": self.assembly.algorithm.state_dict(),
            "streams": self.rng.state_dict(),
            "since": self.since,
        }

    def _shared(self) -> dict[str, Any]:
        """What is the same on all ranks, and is restored when the run goes back."""
        return {
            "step": self.step,
            "synthetic": dict(self.assembly.synthetic.state_dict()),
            "average": self.average.state_dict() if self.average else {},
            "meta": self._meta(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "best": self.best,
        }

    def _load_shared(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        self.assembly.synthetic.load_state_dict(state["synthetic"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self._load_meta(state["meta"])
        if self.optimizer:
            self.optimizer.load_state_dict(state["optimizer"])
        self.best = dict(state["best"])

    def _state(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What is the same on all ranks, with the own state of each rank, in order."""
        assembly = self.assembly
        own, *others = records
        return {
            **self._shared(),
            "seconds": self.seconds,
            "class_grid": assembly.placement.class_grid,
            "notes": assembly.notes,
            DATA: Identity.of(assembly.real).as_dict(),
            "divergences": self.divergences,
            "owes_validation": self.owes_validation,
            **own,
            "others": others,
        }

    def _judged(self) -> dict[str, Any]:
        """A copy of what is judged."""
        state = {"synthetic": dict(self.result.synthetic.state_dict()), "meta": self._meta()}
        copy: dict[str, Any] = copied(state)
        return copy

    def _load_judged(self, state: Mapping[str, Any]) -> None:
        self.result.synthetic.load_state_dict(state["synthetic"])
        self._load_meta(state.get("meta", self._meta()))  # earlier versions kept none

    def _meta(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self.assembly.algorithm.meta_parameters()]

    def _load_meta(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._meta(), values, strict=True):
                parameter.copy_(value)
