"""Charts of runs: accuracy over the outer steps, and accuracy by budget."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from distill_core.report.means import BUDGET, Group
from distill_core.report.record import RunRecord
from distill_core.report.svg import Series, chart

BINS = 60
VALIDATION, REAL_BATCH = "validation", "real batch"
# How the two are told apart, in one sentence.
MEANT = {
    VALIDATION: "validation is of fresh networks, trained on the distilled set and tried on images "
    "that were held out",
    REAL_BATCH: "real batch is of the network that a step trains, tried on the training images "
    "that the step drew",
}
BANDS = "Bands: one sample deviation to either side."
BARS = "Bars: one sample deviation over seeds to either side."


def learning_series(records: Sequence[RunRecord]) -> list[Series]:
    """Return the accuracies in metrics.jsonl: validation, and on the real batches of steps.

    For several runs there is one curve each, by validation if a run has it.
    """
    series = []
    for record in records:
        validated = [
            (line["step"], 100 * line["accuracy"], 100 * _spread(line.get("accuracies")))
            for line in _lines(record, "validation")
        ]
        points = [(line["step"], 100 * line["accuracy"]) for line in _lines(record, "step")]
        found = [
            Series(VALIDATION, validated),
            Series(REAL_BATCH, binned(points)),
        ]
        if len(records) > 1:
            chosen = found[0] if validated else found[1]
            found = [replace(chosen, name=f"{record.name}: {chosen.name}")]
        series += [each for each in found if each.points]
    return series


def about(series: Sequence[Series]) -> str:
    """Say what the learning curves are of, and what their bands are, where they have any."""
    meant = [text for name, text in MEANT.items() if any(s.name.endswith(name) for s in series)]
    texts = [f"{'; '.join(meant).capitalize()}."] if meant else []
    return " ".join([*texts, BANDS] if any(map(has_spread, series)) else texts)


def has_spread(series: Series) -> bool:
    """Say whether any point has a deviation to draw."""
    return any(spread > 0 for *_, spread in series.points)


def binned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float, float]]:
    """Return mean step, mean value and sample deviation of at most `BINS` runs of points.

    >>> binned([(1, 2.0), (2, 4.0)])
    [(1, 2.0, 0.0), (2, 4.0, 0.0)]
    """
    size = max(1, math.ceil(len(points) / BINS))
    found = []
    for start in range(0, len(points), size):
        steps, values = zip(*points[start : start + size], strict=True)
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        found.append(
            (statistics.fmean(steps) if size > 1 else steps[0], statistics.fmean(values), spread)
        )
    return found


def budget_chart(groups: Sequence[Group]) -> str:
    """Draw accuracy by images per class, over seeds; empty where all have the same budget.

    Groups of runs that differ in their budget alone are one line, with one point for each budget.
    """
    lines: dict[str, dict[float, list[float]]] = {}
    for group in groups:
        first = group.records[0]
        points = lines.setdefault(group.label(BUDGET), {})
        # Budgets that were asked for differ more finely than those that were made.
        found = points.setdefault(first.manifest["budget"]["ipc"], [])
        found += [100 * each for each in group.accuracies(first.verdict.name, "distilled")]
    series = [
        Series(name, [_mean(ipc, each) for ipc, each in sorted(points.items()) if each], marks=True)
        for name, points in lines.items()
    ]
    if len({ipc for each in series for ipc, *_ in each.points}) < 2:
        return ""
    note = f'<p class="note">{BARS}</p>' if any(map(has_spread, series)) else ""
    return chart(series, x="budget, images per class", y="accuracy, %") + note


def _mean(ipc: float, found: Sequence[float]) -> tuple[float, float, float]:
    deviation = statistics.stdev(found) if len(found) > 1 else 0.0
    return ipc, statistics.fmean(found), deviation


def _spread(values: Any) -> float:
    """Sample deviation; runs of earlier versions have recorded means alone."""
    if not isinstance(values, list) or len(values) < 2 or not all(map(_is_number, values)):
        return 0.0
    return float(statistics.stdev(values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _lines(record: RunRecord, kind: str) -> list[dict[str, Any]]:
    return [
        line
        for line in record.metrics
        if line.get("kind") == kind
        and isinstance(line.get("step"), int)
        and _is_number(line.get("accuracy"))
    ]
