"""Accuracy against outer steps: validation curves of benchmarks/paper.py, and where they cross.

A guide to what longer runs would say, no promise: accuracy = limit - slope / sqrt(step), by least
squares over all points of a cell's seeds.
"""

from __future__ import annotations

import itertools
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paper_book import Record, records_of
from paper_cells import Cell

Curve = Sequence[Sequence[float]]  # (outer step, validation accuracy in percent)
LEAST_POINTS = 4
TITLE_WIDTH = 100  # letters of the figure's width


@dataclass(frozen=True)
class Fit:
    """accuracy = limit - slope / sqrt(step), in percent.

    Attributes:
        limit: where the curve heads.
        slope: points below the limit after one outer step.
    """

    limit: float
    slope: float

    @classmethod
    def to(cls, curve: Curve) -> Fit | None:
        """Fit a curve; None if it has points of fewer than LEAST_POINTS outer steps."""
        if len({step for step, _ in curve}) < LEAST_POINTS:
            return None
        found = statistics.linear_regression(
            [step**-0.5 for step, _ in curve], [accuracy for _, accuracy in curve]
        )
        return cls(found.intercept, -found.slope)

    def at(self, step: float) -> float:
        """Return the accuracy after an outer step, percent."""
        return self.limit - self.slope * step**-0.5


def crossing(one: Fit, other: Fit) -> float | None:
    """Return the outer step at which two fits are equal; None if they never are."""
    apart, steeper = one.limit - other.limit, one.slope - other.slope
    return (steeper / apart) ** 2 if apart * steeper > 0 else None


@dataclass(frozen=True)
class Line:
    """The runs of a cell at one scale.

    Attributes:
        dataset: of the cell.
        name: of the cell, with the options that only this line has.
        runs: the records of its seeds.
    """

    dataset: str
    name: str
    runs: Sequence[Record]

    @property
    def fit(self) -> Fit | None:
        """The fit over all seeds; None if they have too few points."""
        return Fit.to(self.points)

    @property
    def points(self) -> list[Sequence[float]]:
        """The points of all seeds."""
        return [point for record in self.runs for point in record["curve"]]


def lines_of(
    cells: Sequence[Cell], records: Sequence[Record], scales: Mapping[str, str]
) -> list[Line]:
    """Return the lines that have runs, cell by cell.

    Args:
        cells: of a part.
        records: of the book.
        scales: the options that only a line of it has, empty for none, by scale.
    """
    return [
        Line(cell.dataset, ", ".join(filter(None, (cell.name, own))), found)
        for cell in cells
        for scale, own in scales.items()
        if (found := records_of(cell, records, scale))
    ]


def curves(lines: Sequence[Line]) -> Iterator[str]:
    """Yield Markdown: validation accuracies against outer steps, where each heads, crossings."""
    for line in lines:
        for record in line.runs:
            points = ", ".join(f"{step}: {accuracy:.1f}" for step, accuracy in record["curve"])
            yield f"- {line.dataset}, {line.name}, seed {record['seed']}: {points or 'none'}"
        if fit := line.fit:
            yield f"- {line.dataset}, {line.name}: fitted limit {fit.limit:.1f}"
    for one, other in itertools.combinations(lines, 2):
        fits = one.fit, other.fit
        if one.dataset == other.dataset and fits[0] and fits[1]:
            step = crossing(*fits)
            where = "never cross" if step is None else f"cross after {step:,.0f} outer steps"
            yield f"- {one.dataset}, {one.name} and {other.name}: the fits {where}"


def draw(lines: Sequence[Line], scale: str, target: Path) -> None:
    """Draw the curves of all seeds, with their fits, into a file.

    Args:
        lines: what is drawn.
        scale: what all of them have in common, for the title.
        target: the file.

    Raises:
        SystemExit: no run was validated.
    """
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    several = len({line.dataset for line in lines}) > 1
    for line in lines:
        found = [each for each in line.runs if each["curve"]]
        name = f"{line.dataset}, {line.name}" if several else line.name
        color = None
        for record in found:
            (drawn,) = axes.plot(*zip(*record["curve"], strict=True), ".", color=color, label=name)
            color, name = drawn.get_color(), None
        if fit := line.fit:
            ends = [step for step, _ in line.points]
            steps = np.geomspace(min(ends), max(ends), 100)
            axes.plot(steps, [fit.at(step) for step in steps], color=color, linewidth=1)
    if not axes.lines:
        raise SystemExit(f"nothing to draw: no validated run of {scale} is kept.")
    axes.set(xlabel="outer step", ylabel="validation accuracy, %", xscale="log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("{x:,.0f}")
    axes.tick_params(axis="x", which="both", labelsize=7)
    title = f"points: every seed; lines: fitted ({scale})"
    axes.set_title(textwrap.fill(title, TITLE_WIDTH), fontsize=7)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
