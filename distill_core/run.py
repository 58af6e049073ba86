"""The outer loop, the only one: step, average, check, update, project, then tell the observers.

Nothing else in distill steps the outer optimizer, projects parameters or saves a run's state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from distill_core.assemble import Assembly
from distill_core.averaging import MovingAverage
from distill_core.checkpoint import save_checkpoint
from distill_core.distributed import ALONE, Ranks
from distill_core.groups import check_hypergradients, trained_groups
from distill_core.schedule import RateSchedule
from distill_core.streams import streams_of_rank
from distill_core.trees import copied

Validate = Callable[[], float]


class Observer(Protocol):
    """Told what happens; changes nothing."""

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """An outer step is done; `step` counts from 1."""

    def after_validation(self, step: int, accuracy: float) -> None:
        """Networks were trained on the current state and judged on the validation split."""


class OuterLoop:
    """A run in progress.

    Args:
        assembly: the parts.
        run_dir: where checkpoints go.
        observers: told after every step.
        validate: trains networks on the current state and returns their validation accuracy;
            called every `evaluate.every` outer steps.
        on_checkpoint: called after every checkpoint (it writes the artefact).
        ranks: the processes of the run. All make the same steps in the same order; only rank 0
            writes and has observers.
    """

    def __init__(
        self,
        assembly: Assembly,
        run_dir: Path,
        *,
        observers: Sequence[Observer] = (),
        validate: Validate | None = None,
        on_checkpoint: Callable[[], None] = lambda: None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.assembly = assembly
        self.run_dir = run_dir
        self.observers = list(observers)
        self.validate = validate
        self.on_checkpoint = on_checkpoint
        self.ranks = ranks
        self.rng = assembly.rng
        if not ranks.is_main:
            self.rng = streams_of_rank(assembly.config.seed, ranks.rank)
        self.since = 0
        self.groups = trained_groups(assembly)
        learns = assembly.algorithm.learns
        self.optimizer = assembly.algorithm.outer_optimizer(self.groups) if learns else None
        self.schedule = RateSchedule(self.optimizer, assembly.config.lr_decay)
        ema = assembly.ema
        self.average = None if ema is None else MovingAverage(assembly.synthetic, ema)
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, Any] = {}
        self._before: dict[str, Any] | None = None
        self._saved_step: int | None = None

    @property
    def result(self) -> Assembly:
        """The parts with what the run gives: the moving average, if there is one."""
        if self.average is None:
            return self.assembly
        return replace(self.assembly, synthetic=self.average.synthetic)

    def run(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Do outer steps until the last one, the time limit, or until `stop()` is true.

        Returns:
            Whether the run is complete; if not, `stop` ended it. Its state is saved either way.

        Raises:
            HypergradientError: a hypergradient is not finite, or a group gets none.
        """
        self._start_alike()
        config = self.assembly.config
        saved = time.monotonic()
        complete, out_of_time = True, self._out_of_time()
        while self.step < self.assembly.steps and not out_of_time:
            self._outer_step()
            self._validate_if_due()
            # Together, or some ranks would wait for others that have stopped.
            out_of_time, stopped, due = self.ranks.any(
                self._out_of_time(),
                stop(),
                time.monotonic() - saved > 60 * config.checkpoint_minutes,
            )
            if stopped:
                complete = self.step >= self.assembly.steps
                break
            if due:
                self.checkpoint()
                saved = time.monotonic()
        self.checkpoint()
        return complete

    def checkpoint(self) -> None:
        """Save the complete state: rank 0 does, with what the others send it."""
        records = self.ranks.gather(self._own_state())
        if self.ranks.is_main:
            self._save(self._state(records))

    def rescue(self) -> int:
        """Save the state after the last complete outer step when other ranks are lost.

        What they alone knew is lost with them: on resuming they begin new streams.

        Returns:
            The step of the newest saved state.
        """
        if self.ranks.is_main and self._saved_step != self.step:
            self._save(self._state([self._before or self._own_state()]))
        return self.step

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on, but for the other ranks."""
        return self._state([self._own_state()])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, with any number of ranks."""
        assembly, rank = self.assembly, self.ranks.rank
        self.step, self.seconds = state["step"], state["seconds"]
        self._saved_step = self.step
        assembly.synthetic.load_state_dict(state["synthetic"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self._load_meta(state["meta"])
        if self.optimizer:
            self.optimizer.load_state_dict(state["optimizer"])
        self.best = dict(state["best"])
        others = state.get("others", [])  # runs of one process had no such entry at first
        known = state if rank == 0 else others[rank - 1] if rank <= len(others) else None
        self.since = int(known.get("since", 0)) if known else self.step
        self.rng = streams_of_rank(assembly.config.seed, rank, since=self.since)
        if known:
            self.rng.load_state_dict(known["streams"])
        assembly.algorithm.load_state_dict((known or state)["algorithm"])

    def _save(self, state: Mapping[str, Any]) -> None:
        save_checkpoint(self.run_dir, state, self.assembly.config)
        self._saved_step = self.step
        self.on_checkpoint()

    def _own_state(self) -> dict[str, Any]:
        """What differs between ranks."""
        return {
            "algorithm": self.assembly.algorithm.state_dict(),
            "streams": self.rng.state_dict(),
            "since": self.since,
        }

    def _state(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What is the same on all ranks, with the own state of each in order."""
        assembly = self.assembly
        own, *others = records
        return {
            "step": self.step,
            "seconds": self.seconds,
            "synthetic": dict(assembly.synthetic.state_dict()),
            "average": self.average.state_dict() if self.average else {},
            "meta": self._meta(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "class_grid": assembly.placement.class_grid,
            "notes": assembly.notes,
            "best": self.best,
            **own,
            "others": others,
        }

    def _meta(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self.assembly.algorithm.meta_parameters()]

    def _load_meta(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._meta(), values, strict=True):
                parameter.copy_(value)

    def _start_alike(self) -> None:
        """Give every rank rank 0's parameters, whatever the machines made of the same seed."""
        if self.ranks.size > 1:
            synthetic = self.assembly.synthetic
            start = {
                "synthetic": dict(synthetic.state_dict()),
                "average": self.average.state_dict() if self.average else {},
                "meta": self._meta(),
            }
            start = self.ranks.broadcast(start)
            synthetic.load_state_dict(start["synthetic"])
            if self.average:
                self.average.load_state_dict(start["average"])
            self._load_meta(start["meta"])

    def use_best(self) -> None:
        """Put the state that was best on the validation split in place of the last one."""
        if self.best:
            self.result.synthetic.load_state_dict(self.best["synthetic"])

    def _outer_step(self) -> None:
        assembly = self.assembly
        assert self.optimizer is not None
        begin = time.monotonic()
        if self.ranks.size > 1 and self.ranks.is_main:
            # Streams and algorithm move on before the ranks meet; see `rescue`.
            self._before = copied(self._own_state())
        self.optimizer.zero_grad(set_to_none=True)
        metrics = dict(
            assembly.algorithm.outer_step(assembly.synthetic, step=self.step, rng=self.rng)
        )
        self.ranks.mean_gradients(p for group in self.groups.values() for p in group)
        check_hypergradients(self.groups, step=self.step, config=assembly.config)
        self.schedule.apply(self._progress())
        self.optimizer.step()
        assembly.synthetic.project()
        if self.average:
            self.average.update(assembly.synthetic, step=self.step)
        self.step += 1
        self._before = None
        duration = time.monotonic() - begin
        self.seconds += duration
        metrics["seconds"] = duration
        for observer in self.observers:
            observer.after_step(self.step, metrics)

    def _validate_if_due(self) -> None:
        options = self.assembly.config.evaluate
        if not (self.validate and options.every and self.step % options.every == 0):
            return
        accuracy = self.validate()
        if options.select == "best" and accuracy > self.best.get("accuracy", -1.0):
            state = self.result.synthetic.state_dict()
            self.best = {
                "step": self.step,
                "accuracy": accuracy,
                "synthetic": {name: tensor.clone() for name, tensor in state.items()},
            }
        for observer in self.observers:
            observer.after_validation(self.step, accuracy)

    def _progress(self) -> float:
        """What is done of the run, 0 to 1; the same on all ranks, whose clocks differ."""
        config = self.assembly.config
        done = self.step / config.steps
        if config.minutes is None or config.lr_decay == "none":
            return done
        done = max(done, self.seconds / (60 * config.minutes))
        return float(self.ranks.broadcast({"done": done})["done"])

    def _out_of_time(self) -> bool:
        minutes = self.assembly.config.minutes
        return minutes is not None and self.seconds >= 60 * minutes
