"""The contract of algorithms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from distill_core.contracts.algorithm import Algorithm, Estimate
from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.system.state_tree import copied
from distill_core.testing.assertions import demand, equal, repeatable, snapshot
from distill_core.testing.small import demand_unseen, small_data, small_synthetic, small_task

Gradients = dict[str, list[Tensor | None]]


def check_algorithm(make: Callable[..., Algorithm], *, name: str = "unnamed") -> None:
    """Check an algorithm on six small images, with fixed labels, and with learned ones if it can.

    An outer step leaves finite gradients, steps and projects nothing, depends on its generators
    and state alone, and does not look at the test images; a run that is saved and resumed goes on
    bit for bit.

    Args:
        make: called as `make(task=Task)`.
        name: for the sentences of the AssertionErrors.
    """
    who = f"algorithm '{name}'"
    for learned in (True, False):
        labels = "learned" if learned else "fixed"
        real = small_data()
        _check(f"{who} with {labels} labels", partial(_Trial.start, make, real, learned), learned)
        demand_unseen(who, real)


@dataclass
class _Trial:
    """An algorithm and a synthetic dataset on which it is tried."""

    algorithm: Algorithm
    synthetic: SyntheticDataset
    rng: Streams

    @staticmethod
    def start(make: Callable[..., Algorithm], real: RealData, learned_labels: bool) -> _Trial:
        """Begin from the same state in every call."""
        synthetic = small_synthetic(real, learned_labels=learned_labels)
        return _Trial(make(task=small_task(real)), synthetic, Streams(0))

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return all trained parameters by group."""
        meta = list(self.algorithm.meta_parameters())
        return {**self.synthetic.groups(), **({"algorithm": meta} if meta else {})}

    def step(self, step: int) -> tuple[dict[str, float], Gradients]:
        """Do one outer step; return metrics and gradients."""
        for parameter in self._parameters():
            parameter.grad = None
        metrics = self.algorithm.outer_step(self.synthetic, step=step, rng=self.rng)
        found = {
            name: [None if p.grad is None else p.grad.clone() for p in parameters]
            for name, parameters in self.groups().items()
        }
        return dict(metrics), found

    def update(self) -> None:
        """Do what the engine does after an outer step, with a plain optimizer."""
        with torch.no_grad():
            for parameter in self._parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.01 * parameter.grad.sign())
        self.synthetic.project()

    def state(self) -> dict[str, Any]:
        """Copy everything that a checkpoint holds."""
        return {
            "algorithm": copied(self.algorithm.state_dict()),
            "meta": [each.detach().clone() for each in self.algorithm.meta_parameters()],
            "synthetic": snapshot(self.synthetic),
            "streams": copied(self.rng.state_dict()),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.synthetic.load_state_dict(state["synthetic"])
        self.algorithm.load_state_dict(state["algorithm"])
        self.rng.load_state_dict(state["streams"])
        with torch.no_grad():
            for each, value in zip(self.algorithm.meta_parameters(), state["meta"], strict=True):
                each.copy_(value)

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for members in self.groups().values() for parameter in members]


def _check(who: str, start: Callable[[], _Trial], learned: bool) -> None:
    trial = start()
    demand(isinstance(trial.algorithm, Algorithm), who, "is not an Algorithm")
    demand(isinstance(trial.algorithm.recipe(), Recipe), who, "has a recipe that is not a Recipe")
    if not trial.algorithm.learns or (learned and not trial.algorithm.learns_labels):
        return
    metrics, gradients = repeatable(who, "outer_step", lambda: start().step(0))
    _check_metrics(who, metrics)
    _check_gradients(who, gradients)
    _check_optimizer(who, trial, gradients)
    before = _state(who, trial)
    trial.step(0)
    after = _state(who, trial)
    demand(
        equal(before["synthetic"], after["synthetic"]) and equal(before["meta"], after["meta"]),
        who,
        "changes parameters in outer_step; the engine alone steps and projects",
    )
    _check_resume(who, start)
    _check_estimate(who, start())


def _check_metrics(who: str, metrics: Mapping[str, float]) -> None:
    demand("loss" in metrics, who, 'returns metrics without "loss"')
    for key, value in metrics.items():
        fine = isinstance(value, (int, float)) and math.isfinite(value)
        demand(fine, who, f"returns the metric {key} = {value!r}, which is not a finite number")


def _check_gradients(who: str, gradients: Gradients) -> None:
    for group, members in gradients.items():
        found = [each for each in members if each is not None]
        finite = all(bool(torch.isfinite(each).all()) for each in found)
        demand(finite, who, f"leaves gradients in group '{group}' that are not finite")
    for group in [each for each in ("data", "labels") if each in gradients]:
        there = any(each is not None and bool(each.any()) for each in gradients[group])
        unless = "; say learns_labels = False" if group == "labels" else ""
        demand(there, who, f"leaves no gradient in group '{group}' after outer_step{unless}")


def _check_optimizer(who: str, trial: _Trial, gradients: Gradients) -> None:
    groups = trial.groups()
    optimizer = trial.algorithm.outer_optimizer(groups)
    demand(isinstance(optimizer, torch.optim.Optimizer), who, "makes no torch Optimizer")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    known = {id(parameter) for members in groups.values() for parameter in members}
    demand(held <= known, who, "optimizes parameters that it was not given")
    for name, members in gradients.items():
        trained = any(each is not None for each in members)
        missing = trained and not all(id(parameter) in held for parameter in groups[name])
        demand(not missing, who, f"leaves gradients in group '{name}' but does not optimize it")


def _state(who: str, trial: _Trial) -> dict[str, Any]:
    try:
        return trial.state()
    except TypeError as error:
        raise AssertionError(f"{who} has a state that cannot be saved: {error}.") from error


def _check_resume(who: str, start: Callable[[], _Trial]) -> None:
    trial = start()
    trial.step(0)
    trial.update()
    state = trial.state()
    straight = trial.step(1)
    other = start()
    other.load(state)
    resumed = other.step(1)
    demand(
        equal(straight, resumed) and equal(trial.state(), other.state()),
        who,
        "does not go on bit for bit after its state was saved and loaded",
    )


def _check_estimate(who: str, trial: _Trial) -> None:
    before = trial.state()
    estimate = trial.algorithm.estimate(trial.synthetic, rng=Streams(0))
    demand(estimate is None or isinstance(estimate, Estimate), who, "estimates no Estimate")
    if estimate is not None:
        sound = estimate.seconds > 0 and estimate.memory >= 0 and bool(estimate.measured)
        demand(sound, who, f"estimates {estimate}, which cannot be")
    clean = all(p.grad is None for members in trial.groups().values() for p in members)
    demand(clean, who, "leaves gradients behind by estimate")
    demand(equal(before, trial.state()), who, "changes its state by estimate")
