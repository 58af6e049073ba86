"""Live progress: a bar on a terminal, occasional plain lines elsewhere."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from distill_core.system.units import QUIET_SECONDS, duration


class ConsoleProgress:
    """Shows step, loss, hypergradient norm, speed and time left; an observer of the outer loop.

    Of a run that its time ends first it shows about how many steps that is: "step 12/~39".

    Args:
        console: where to print; its `is_terminal` decides between a bar and plain lines.
        steps: outer steps of the whole run.
        step: the step that the run resumes from.
        minutes: time left for outer steps, if the run has a limit.
    """

    def __init__(
        self, console: Console, *, steps: int, step: int = 0, minutes: float | None = None
    ) -> None:
        self.console = console
        self.steps, self.first = steps, step
        self.limit = None if minutes is None else 60 * minutes  # seconds
        self._shown = time.monotonic()
        self._spent = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> ConsoleProgress:
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("outer step"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self.steps, completed=self.first)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show a step."""
        self._spent += metrics["seconds"]
        text = describe(metrics)
        if self._bar:
            self._bar.update(self._task, completed=step, total=self._last(step), description=text)
            return
        now = time.monotonic()
        if step in (self.first + 1, self.steps) or now - self._shown > QUIET_SECONDS:
            self._shown = now
            left = self._time_left(step)
            self.console.print(f"step {self._count(step)}  {text}  {left}", highlight=False)

    def after_validation(self, step: int, accuracies: Sequence[float]) -> None:
        """Show the mean validation accuracy."""
        accuracy = statistics.fmean(accuracies)
        self.console.print(
            f"step {self._count(step)}  validation accuracy {100 * accuracy:.1f} %",
            highlight=False,
        )

    def after_going_back(self, step: int, what: str) -> None:
        """Show that the run went back, and restart the measurement of its speed."""
        if self.limit is not None:
            self.limit -= self._spent
        self.first, self._spent = step, 0.0
        if self._bar:
            self._bar.update(self._task, completed=step)
        self.console.print(f"back to step {self._count(step)}: {what}", markup=False)

    def _count(self, step: int) -> str:
        last = self._last(step)
        return f"{step:,}/{last:,}" if last == self.steps else f"{step:,}/~{last:,}"

    def _last(self, step: int) -> int:
        """Return the step that the run ends with, if steps go on taking as long as so far."""
        if self.limit is None or not self._spent:
            return self.steps
        left = max(self.limit - self._spent, 0.0)
        return min(self.steps, step + math.ceil(left * (step - self.first) / self._spent))

    def _time_left(self, step: int) -> str:
        seconds = self._spent / (step - self.first) * (self.steps - step)
        if self.limit is not None:
            seconds = min(seconds, self.limit - self._spent)
        return f"{duration(max(seconds, 0.0))} left"


def describe(metrics: Mapping[str, float]) -> str:
    """Return loss, hypergradient norm and seconds per step on one line."""
    parts = [f"loss {metrics['loss']:.4f}"]
    if "grad_norm" in metrics:
        parts.append(f"hypergradient {metrics['grad_norm']:.3g}")
    parts.append(f"{metrics['seconds']:.2f} s/step")
    return "  ".join(parts)


def predicted_course(steps: int, minutes: float | None, *, seconds: float) -> str:
    """Return how long a run takes, or how many steps it makes within its time limit.

    Args:
        steps: outer steps of the configuration.
        minutes: the run's limit, if it has one.
        seconds: duration of one step.

    >>> predicted_course(1000, 30.0, seconds=2.5)
    'about 720 steps in 30 min 00 s'
    """
    if minutes is not None and 60 * minutes < seconds * steps:
        made = round(60 * minutes / seconds)
        return f"about {made} step{'s' * (made != 1)} in {duration(60 * minutes)}"
    return f"{steps} step{'s' * (steps != 1)}: {duration(seconds * steps)}"
