"""The outer loop, the only one: step, average, check, update, project, then tell the observers.

Nothing else in distill steps the outer optimizer, projects parameters or saves a run's state.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from distill_core.contracts.algorithm import DivergenceError
from distill_core.distributed.ranks import SINGLE_PROCESS, Ranks
from distill_core.run.algorithm_checks import check_metrics, check_state
from distill_core.run.assemble import Assembly
from distill_core.run.checkpoint import save_checkpoint
from distill_core.run.checks import check_penalty, watched
from distill_core.run.divergence import (
    LIMIT,
    check_hypergradients,
    check_loss,
    check_update,
    record,
    smaller,
)
from distill_core.run.notices import APPLIED
from distill_core.run.state import LoopState, Validate
from distill_core.system.arithmetic import inner_precision
from distill_core.system.state_tree import copied


class Observer(Protocol):
    """Called with what happens; changes nothing."""

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """An outer step is done; `step` counts from 1."""

    def after_validation(self, step: int, accuracies: Sequence[float]) -> None:
        """Networks were trained on the current state; their accuracies on the validation split."""

    def after_going_back(self, step: int, what: str) -> None:
        """The run diverged and is at an earlier step again; `what` says how."""


class OuterLoop(LoopState):
    """A run in progress.

    Args:
        assembly: the parts.
        run_dir: where checkpoints go.
        observers: called after every step.
        validate: trains networks on the current state and returns their validation accuracies;
            called every `evaluate.every` outer steps.
        before_save: called before every checkpoint; raises if the run directory is not ours.
        on_checkpoint: called after every checkpoint (it writes the artefact).
        ranks: the processes of the run. All do the same steps in the same order; only rank 0
            writes and has observers.
    """

    def __init__(
        self,
        assembly: Assembly,
        run_dir: Path,
        *,
        observers: Sequence[Observer] = (),
        validate: Validate | None = None,
        before_save: Callable[[], None] = lambda: None,
        on_checkpoint: Callable[[], None] = lambda: None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        super().__init__(assembly, ranks)
        self.run_dir = run_dir
        self.observers = list(observers)
        self.validate = validate
        self.before_save, self.on_checkpoint = before_save, on_checkpoint
        self.best_step: int | None = None  # of the state that `use_best` has taken
        self._before: dict[str, Any] | None = None
        self._updating = False
        self._watched = False

    def run(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Do outer steps until the last one, the time limit, or until `stop()` is true.

        Returns:
            Whether the run is complete; if not, `stop` ended it. Its state is saved either way.

        Raises:
            HypergradientError: a hypergradient is not finite, or a group gets none.
            ContractError: the algorithm draws from the global random state, has a
                state that no file can hold, or leaves images or labels that break their contract.
        """
        self._start_alike()
        config = self.assembly.config
        saved = time.monotonic()
        if self.owes_validation:
            self._validate_if_due()
        complete, out_of_time = True, self.out_of_time()
        while self.step < self.assembly.steps and not out_of_time:
            if self._outer_step_or_back():
                self._validate_if_due()
            # Together, or some ranks would wait for others that have stopped.
            out_of_time, stopped, due = self.ranks.any(
                self.out_of_time(),
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
        """Save the complete state: rank 0 writes it, with what the others send."""
        records = self.ranks.gather(self._own_state())
        if self.ranks.is_main:
            self._save(self._state(records))

    def rescue(self, *, together: bool = False) -> None:
        """Save the state after the last complete outer step when the one after it failed.

        Args:
            together: all ranks do this. If not, the state of the other ranks is lost: they start
                new streams when the run is resumed.
        """
        if not self._updating and self.saved_step != self.step:
            own = self._before or self._own_state()
            records = self.ranks.gather(own) if together else [own]
            if self.ranks.is_main:
                self._save(self._state(records))

    def _save(self, state: Mapping[str, Any]) -> None:
        self.before_save()
        save_checkpoint(self.run_dir, state, self.assembly.config)
        self.saved_step = self.step
        self.on_checkpoint()

    def _start_alike(self) -> None:
        """Give every rank the parameters of rank 0; machines may differ for the same seed."""
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
        """Replace the last state by the one that was best on the validation split."""
        if self.best:
            self._load_judged(self.best)
            self.best_step = self.best["step"]

    def _outer_step_or_back(self) -> bool:
        """Do a step, or go back to an earlier one; all ranks do the same.

        Returns:
            Whether the step was done.
        """
        goes_back = self.assembly.config.on_divergence == "halve-lr"
        if goes_back:
            self.earlier.take(self.step, lambda: {**self._shared(), **self._own_present()})
        # Streams and algorithm advance before the step can fail; see `rescue`.
        present = self._own_present()
        try:
            self._before = {**copied(present), "snapshots": self.earlier.states}
        except (TypeError, RecursionError):  # of a part that no file can hold; the check names it
            check_state(self.assembly.named["algorithm"], present["algorithm"])
            raise
        try:
            self._outer_step()
        except DivergenceError as error:
            if not goes_back or len(self.divergences) >= LIMIT:
                raise
            self._go_back(error.what)
            return False
        return True

    def _go_back(self, what: str) -> None:
        state, failed = self.earlier.back(), self.step
        self._load_shared(state)
        self.since = state["since"]
        self.rng.load_state_dict(state["streams"])
        self.assembly.algorithm.load_state_dict(state["algorithm"])
        self._before, self._updating = None, False
        times = len(self.divergences) + 1
        self.divergences.append(record(failed, self.step, what, times))
        self.schedule.scale = 0.5**times
        self.checkpoint()
        for observer in self.observers:
            observer.after_going_back(self.step, f"{what} Learning rates are now 1/{2**times}.")

    def _outer_step(self) -> None:
        assembly = self.assembly
        assert self.optimizer is not None
        begin, first = time.monotonic(), not self._watched
        self.optimizer.zero_grad(set_to_none=True)
        metrics = self._hypergradient()
        self.ranks.mean_gradients(p for group in self.groups.values() for p in group)
        norms = check_hypergradients(self.groups, step=self.step, config=assembly.config)
        metrics |= {f"{APPLIED}{name}": norm for name, norm in norms.items()}
        penalty = assembly.synthetic.representation.penalty()
        if penalty is not None:  # after the check: it must not hide a missing hypergradient
            check_penalty(assembly.named["representation"], penalty)
            penalty.backward()  # type: ignore[no-untyped-call]
        self.schedule.apply(self._progress())
        self._updating = True
        self.optimizer.step()
        assembly.synthetic.project()
        check_update(self.groups, step=self.step, config=assembly.config)
        if first:  # a labeler without `project` is found now, not when all is done
            assembly.check_synthetic()
            assembly.check_counted()
        if self.average:
            self.average.update(assembly.synthetic, step=self.step)
        self.step, self.owes_validation = self.step + 1, True
        self._before, self._updating = None, False
        duration = time.monotonic() - begin
        self.seconds += duration
        metrics["seconds"] = duration
        for observer in self.observers:
            observer.after_step(self.step, metrics)

    def _hypergradient(self) -> dict[str, float]:
        """Let the algorithm leave its hypergradient; if it fails on one rank, all stop.

        Raises:
            DivergenceError: numbers of this or another process are not finite.
        """
        assembly, metrics = self.assembly, {}
        trouble: DivergenceError | None = None
        try:
            with self._watch(), inner_precision(assembly.config):
                found = assembly.algorithm.outer_step(
                    assembly.synthetic, step=self.step, rng=self.rng
                )
            check_metrics(assembly.named["algorithm"], found)
            metrics = dict(found)
            check_loss(metrics, step=self.step, config=assembly.config)
        except DivergenceError as error:
            trouble = error
        if any(self.ranks.any(trouble is not None)):
            raise trouble or DivergenceError(
                f"numbers of another process are not finite in outer step {self.step + 1}.",
                expected="finite numbers; the update was not made.",
                next=smaller(assembly.config),
            )
        return metrics

    def _watch(self) -> AbstractContextManager[None]:
        """Watch the first outer step of a process, which must draw from its streams alone."""
        if self._watched:
            return nullcontext()
        self._watched = True
        return watched(self.assembly.named["algorithm"], "outer_step")

    def _validate_if_due(self) -> None:
        options = self.assembly.config.evaluate
        accuracies: Sequence[float] = ()
        if self.validate and options.every and self.step % options.every == 0:
            accuracies = self.validate()
            if options.select == "best":
                self.keep_if_best(statistics.fmean(accuracies), self.validate)
        self.owes_validation = False  # even if an observer fails now: others have recorded it
        for observer in self.observers if accuracies else ():
            observer.after_validation(self.step, accuracies)

    def _progress(self) -> float:
        """Return the finished part of the run, 0 to 1, the same on all ranks: clocks differ."""
        config = self.assembly.config
        done = self.step / config.steps
        if config.minutes is None or config.lr_decay == "none":
            return done
        done = max(done, self.seconds / (60 * config.minutes))
        return float(self.ranks.broadcast({"done": done})["done"])

    def out_of_time(self) -> bool:
        """Return whether the time of `run.minutes` is spent."""
        minutes = self.assembly.config.minutes
        return minutes is not None and self.seconds >= 60 * minutes
