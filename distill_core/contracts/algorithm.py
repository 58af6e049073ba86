"""The contract of an algorithm: its task, its outer step, its predictions of cost, its errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Generator, nn
from torch.optim import Optimizer

from distill_core.contracts.data import DataSpec, RealData
from distill_core.contracts.derivatives import Engine
from distill_core.contracts.experts import Experts
from distill_core.contracts.network import Backbone
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import SyntheticDataset
from registry import ExplainedError


class HypergradientError(ExplainedError, ArithmeticError):
    """A hypergradient that cannot be used; the update was not made."""


class DivergenceError(HypergradientError):
    """Numbers are no longer finite, or useless; an algorithm may raise it in `outer_step`."""


@dataclass(frozen=True)
class Task:
    """What an algorithm may know besides the synthetic dataset.

    Attributes:
        real: the real data, on the device: `train` to learn from, `validation` to select. `test`
            is for judging alone.
        new_backbone: makes a freshly initialised network on the device, in training mode.
        engine: differentiates the inner loss of such networks.
        experts: trajectories of such networks on the real data, made when needed; None if there
            are none.
    """

    real: RealData
    new_backbone: Callable[[Generator], Backbone]
    engine: Engine
    experts: Experts | None = None


@runtime_checkable
class DrawsItems(Protocol):
    """Options of an algorithm that trains networks on batches of items, for `item_draws`.

    A representation whose number of items is free may have a parameter `item_draws: int | None`: it
    is what the run's algorithm says here, None if that says nothing.
    """

    def item_draws(self, spec: DataSpec) -> int | None:
        """Return how many items the longest inner loop draws in all, counted with repeats."""
        ...


def item_draws(options: object, spec: DataSpec) -> int | None:
    """Return what the options of an algorithm say of an inner loop's draws; None: nothing."""
    return options.item_draws(spec) if isinstance(options, DrawsItems) else None


@dataclass(frozen=True)
class Estimate:
    """Cost of one outer step.

    Attributes:
        seconds: expected wall-clock seconds.
        memory: expected peak of the memory that the step itself needs, bytes.
        measured: one sentence: what was run to measure it.
        phases: parts of `seconds` by name; empty if they are not known.
        retained: part of `memory` that holds activations of differentiated steps, bytes.
        trial: `memory` of the steps that were run, before it was extrapolated, bytes; None if it
            was not extrapolated.
    """

    seconds: float
    memory: int
    measured: str
    phases: Mapping[str, float] = field(default_factory=dict)
    retained: int = 0
    trial: int | None = None

    @property
    def counted(self) -> int:
        """Bytes counted in the steps that were run."""
        return self.memory if self.trial is None else self.trial


class Algorithm(ABC):
    """Computes the hypergradient of a synthetic dataset. Made by `factory(options, task=Task)`.

    Attributes:
        needs_simplex: it accepts only labels that are distributions over classes.
        learns: it trains something. If False, a run makes no outer step: what the representation
            starts with is saved and judged, and `outer_optimizer` and `outer_step` are not called.
        learns_labels: it gives labels a hypergradient. If False, a labeler with parameters is
            refused before any work. May depend on the options.
    """

    needs_simplex: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    learns_labels: bool = True

    @abstractmethod
    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return the outer optimizer over the groups "data", "labels" and "algorithm"."""

    @abstractmethod
    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Leave a hypergradient in `.grad` of every group that it trains; return metrics.

        It must not step the optimizer, project, zero gradients or save anything. Every draw
        comes from `rng`. Metrics must contain "loss", the outer loss.

        Raises:
            DivergenceError: there is no usable hypergradient, because numbers have diverged.
        """

    @abstractmethod
    def recipe(self) -> Recipe:
        """Return the recipe for training a network on the result."""

    def meta_parameters(self) -> Sequence[nn.Parameter]:
        """Return scalars that the algorithm learns (group "algorithm"), on the device."""
        return ()

    def default_ema(self) -> float | None:
        """Return the decay of the moving average if `run.ema` is not set; None: no average."""
        return None

    def prepare(self, tell: Callable[[str], None]) -> None:
        """Do slow work before the first outer step, and tell its progress.

        Called once per run, after all checks. `outer_step` must also work without it.
        """
        del tell

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate | None:
        """Predict the cost of one outer step without making one; None if it cannot."""
        del synthetic, rng
        return None

    def notes(self) -> Mapping[str, str]:
        """Return what the algorithm decided by itself, for the console and the record."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that must survive between outer steps: tensors, numbers, text."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        if state:
            raise ValueError(f"{type(self).__name__} has no state to restore but was given some")
