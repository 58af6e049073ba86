"""The results of a sweep: accuracies for each place of the grid, over its seeds."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_core.commands.sweep import Cell
from distill_core.report.other_data import other_data
from distill_core.system.files import write_atomically

SETS = ("distilled", "random", "full")


def records(cells: Sequence[Cell], failed: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return one flat record for each cell, for CSV and JSON.

    Args:
        cells: all cells.
        failed: exit codes of those that failed, by name.
    """
    found = []
    for cell in cells:
        record = cell.results()
        code = failed.get(cell.name)
        results = record.get("results", {})
        found.append(
            {
                "cell": cell.name,
                **cell.axes,
                "seed": cell.config.seed,
                "state": cell.state() if code is None else "failed",
                "exit_code": code,
                **{name: results.get(name, {}).get("mean") for name in SETS},
                "outer_steps": record.get("outer_steps"),
                "seconds": record.get("seconds"),
            }
        )
    return found


def rows(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Return headers and one row for each place of the grid: mean and deviation over seeds."""
    body = []
    for place, members in _by_place(cells).items():
        done = [record["results"] for cell in members if (record := cell.results())]
        values = [[found[name]["mean"] for found in done if name in found] for name in SETS]
        body.append([*place, f"{len(done)}/{len(members)}", *(spread(each) for each in values)])
    return [*cells[0].axes, "seeds", *SETS], body


def not_alike(cells: Sequence[Cell]) -> list[str]:
    """Return a line for each dataset whose images are not the same in all seeds of a place."""
    return [
        line
        for members in _by_place(cells).values()
        for line in other_data((c.name, c.config.dataset, c.results()) for c in members)
    ]


def _by_place(cells: Sequence[Cell]) -> dict[tuple[str, ...], list[Cell]]:
    places: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        places.setdefault(tuple(cell.axes.values()), []).append(cell)
    return places


def spread(accuracies: Sequence[float]) -> str:
    """Return mean and sample deviation (ddof = 1) over seeds as text, in percent.

    >>> spread([0.5, 0.6]), spread([0.5]), spread([])
    ('55.0 +- 7.1', '50.0', '')
    """
    if not accuracies:
        return ""
    mean = f"{100 * statistics.fmean(accuracies):.1f}"
    if len(accuracies) == 1:
        return mean
    return f"{mean} +- {100 * statistics.stdev(accuracies):.1f}"


def save(found: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write results.csv and results.json."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    write_atomically(out / "results.csv", text.getvalue().encode())
    write_atomically(out / "results.json", f"{json.dumps(found, indent=1)}\n".encode())
