"""The outer loop, the only one: step, check, update, project, then tell the observers.

Nothing else in distill steps the outer optimizer, projects parameters or saves a run's state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from distill_core.assemble import Assembly
from distill_core.averaging import MovingAverage
from distill_core.checkpoint import save_checkpoint
from registry import ExplainedError

Validate = Callable[[], float]


class Observer(Protocol):
    """Told what happens; changes nothing."""

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """An outer step is done; `step` counts from 1."""

    def after_validation(self, step: int, accuracy: float) -> None:
        """Networks were trained on the current state and judged on the validation split."""


class HypergradientError(ExplainedError, ArithmeticError):
    """A hypergradient that cannot be used; the update was not made."""


class OuterLoop:
    """A run in progress.

    Args:
        assembly: the parts.
        run_dir: where checkpoints go.
        observers: told after every step.
        validate: trains networks on the current state and returns their validation accuracy;
            called every `evaluate.every` outer steps.
        on_checkpoint: called after every checkpoint (it writes the artefact).
    """

    def __init__(
        self,
        assembly: Assembly,
        run_dir: Path,
        *,
        observers: Sequence[Observer] = (),
        validate: Validate | None = None,
        on_checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        self.assembly = assembly
        self.run_dir = run_dir
        self.observers = list(observers)
        self.validate = validate
        self.on_checkpoint = on_checkpoint
        self.groups = trained_groups(assembly)
        self.optimizer = assembly.algorithm.outer_optimizer(self.groups)
        ema = assembly.config.ema
        self.average = None if ema is None else MovingAverage(assembly.synthetic, ema)
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, Any] = {}

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
        config = self.assembly.config
        saved = time.monotonic()
        complete = True
        while self.step < config.steps and not self._out_of_time():
            self._outer_step()
            self._validate_if_due()
            if stop():
                complete = self.step >= config.steps
                break
            if time.monotonic() - saved > 60 * config.checkpoint_minutes:
                self.checkpoint()
                saved = time.monotonic()
        self.checkpoint()
        return complete

    def checkpoint(self) -> None:
        """Save the complete state."""
        save_checkpoint(self.run_dir, self.state_dict(), self.assembly.config)
        self.on_checkpoint()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on."""
        assembly = self.assembly
        return {
            "step": self.step,
            "seconds": self.seconds,
            "synthetic": dict(assembly.synthetic.state_dict()),
            "average": self.average.state_dict() if self.average else {},
            "algorithm": assembly.algorithm.state_dict(),
            "meta": [parameter.detach() for parameter in assembly.algorithm.meta_parameters()],
            "optimizer": self.optimizer.state_dict(),
            "streams": assembly.rng.state_dict(),
            "class_grid": assembly.placement.class_grid,
            "notes": assembly.notes,
            "best": self.best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        assembly = self.assembly
        self.step, self.seconds = state["step"], state["seconds"]
        assembly.synthetic.load_state_dict(state["synthetic"])
        if self.average:
            self.average.load_state_dict(state["average"])
        assembly.algorithm.load_state_dict(state["algorithm"])
        with torch.no_grad():
            for parameter, value in zip(
                assembly.algorithm.meta_parameters(), state["meta"], strict=True
            ):
                parameter.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        assembly.rng.load_state_dict(state["streams"])
        self.best = dict(state["best"])

    def use_best(self) -> None:
        """Put the state that was best on the validation split in place of the last one."""
        if self.best:
            self.result.synthetic.load_state_dict(self.best["synthetic"])

    def _outer_step(self) -> None:
        assembly = self.assembly
        begin = time.monotonic()
        self.optimizer.zero_grad(set_to_none=True)
        metrics = dict(
            assembly.algorithm.outer_step(assembly.synthetic, step=self.step, rng=assembly.rng)
        )
        check_hypergradients(self.groups, step=self.step, config=assembly.config)
        self.optimizer.step()
        assembly.synthetic.project()
        if self.average:
            self.average.update(assembly.synthetic, step=self.step)
        self.step += 1
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

    def _out_of_time(self) -> bool:
        minutes = self.assembly.config.minutes
        return minutes is not None and self.seconds >= 60 * minutes


def trained_groups(assembly: Assembly) -> dict[str, list[nn.Parameter]]:
    """Return all trained parameters by group: "data", "labels", "algorithm"."""
    groups = assembly.synthetic.groups()
    meta = list(assembly.algorithm.meta_parameters())
    return {**groups, "algorithm": meta} if meta else groups


def check_hypergradients(
    groups: Mapping[str, Sequence[nn.Parameter]], *, step: int, config: Any
) -> None:
    """Refuse a hypergradient that is not finite, or, in the first step, one that is missing.

    Raises:
        HypergradientError: naming the step and the group.
    """
    for name, parameters in groups.items():
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            raise HypergradientError(
                f"the hypergradient of group '{name}' in outer step {step + 1} is not finite.",
                expected="finite numbers; the update was not made.",
                next="start again with smaller learning rates (-o algo...), or look at the last "
                "good state: `distill evaluate` reads the run directory.",
            )
        if step == 0 and not any(_is_there(gradient) for gradient in gradients):
            raise HypergradientError(
                f"algorithm '{config.algo}' sends no hypergradient to group '{name}'.",
                expected="a gradient in every group that is learned.",
                next="choose a labeler with fixed labels, or an algorithm that trains them.",
            )


def _is_there(gradient: Tensor) -> bool:
    return bool((gradient != 0).any())
