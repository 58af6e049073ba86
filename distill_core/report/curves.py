"""Charts of runs: accuracy over the outer steps, and accuracy by budget."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from distill_core.report.svg import Series, chart
from distill_core.run_record import RunRecord

BINS = 60


def curves(records: Sequence[RunRecord]) -> str:
    """Draw what metrics.jsonl has: validation accuracies, and those on real batches in steps."""
    series = []
    for record in records:
        who = f"{record.name}: " if len(records) > 1 else ""
        validated = [(step, 100 * value, 0.0) for step, value in _values(record, "validation")]
        series.append(Series(f"{who}validation, fresh networks", validated))
        steps = binned([(step, 100 * value) for step, value in _values(record, "step")])
        series.append(Series(f"{who}real batch of a step (mean, deviation)", steps))
    return chart(series, x="outer step", y="accuracy, %")


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


def budget_chart(records: Sequence[RunRecord]) -> str:
    """Draw accuracy by images per class, of the newest judgement, beside random real images."""
    series = []
    for record in records:
        ipc, judged = record.manifest["budget"]["ipc"], record.judgements[-1]
        for what in ("distilled", "random"):
            if (found := judged.results.get(what)) and (what == "distilled" or len(records) == 1):
                name = record.name if len(records) > 1 else what
                point = (ipc, 100 * found.mean, 100 * (found.std or 0.0))
                series.append(Series(name, [point], line=False))
    return chart(series, x="budget, images per class", y="accuracy, %")


def _values(record: RunRecord, kind: str) -> list[tuple[int, float]]:
    return [
        (line["step"], line["accuracy"])
        for line in record.metrics
        if line.get("kind") == kind
        and isinstance(line.get("step"), int)
        and isinstance(line.get("accuracy"), int | float)
        and math.isfinite(line["accuracy"])
    ]
