"""The results of a sweep: accuracies for each place of the grid, over its seeds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_core.commands.sweep import Cell
from distill_core.report.means import last_by, spread, stored
from distill_core.report.other_data import other_data
from distill_core.report.record import WHAT, columns_of, read_run
from distill_core.system.files import write_atomically

MEASURED = ("numbers", "bytes", "bits_per_class", "ipc_pixels", "ipc_bytes")


def records(cells: Sequence[Cell], failed: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return one flat record for each cell, for CSV and JSON.

    Args:
        cells: all cells.
        failed: exit codes of those that failed, by name.
    """
    found = []
    several = any(cell.config.evaluate.backbones for cell in cells)
    shown = _shown(cells)
    for cell in cells:
        record = cell.manifest()
        code = failed.get(cell.name)
        results = record.get("results", {})
        found.append(
            {
                "cell": cell.name,
                **cell.axes,
                "seed": cell.config.seed,
                "state": cell.state() if code is None else "failed",
                "exit_code": code,
                **{name: results.get(name, {}).get("mean") for name in shown},
                **({"networks": judged_by(cell) if results else None} if several else {}),
                **_measured(record),
                "outer_steps": record.get("outer_steps"),
                "seconds": record.get("seconds"),
            }
        )
    return found


def rows(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Return headers and one row for each place of the grid: mean and deviation over seeds.

    Bytes are those of everything that is stored. Where several networks judge, each has a row.
    """
    body = []
    several = any(cell.config.evaluate.backbones for cell in cells)
    sets = _shown(cells)
    for place, members in _by_place(cells).items():
        done = [judged_by(cell) for cell in members if cell.manifest()]
        size = stored(cell.manifest() for cell in members)
        for network in dict.fromkeys(n for each in done for n in each) or ("",):
            found = [each[network] for each in done if network in each]
            values = [[each[what] for each in found if what in each] for what in sets]
            shown = [network] if several else []
            seeds = f"{len(found)}/{len(members)}"
            body.append([*place, *shown, seeds, size, *(spread(each) for each in values)])
    return [*cells[0].axes, *(["network"] if several else []), "seeds", "bytes", *sets], body


def judged_by(cell: Cell) -> dict[str, dict[str, float]]:
    """Return the accuracies of a cell that is done, by the network that judged and the set."""
    own, results = cell.config.named("backbone"), cell.manifest()["results"]
    found = {own: {what: results[what]["mean"] for what in WHAT if what in results}}
    if cell.config.evaluate.backbones:
        record = read_run(cell.run_dir)
        for name in dict.fromkeys(each.name for each in record.judgements if each.name != own):
            if judged := last_by(record, name):
                found[name] = {what: each.mean for what, each in judged.results.items()}
    return found


def not_alike(cells: Sequence[Cell]) -> list[str]:
    """Return a line for each dataset whose images are not the same in all seeds of a place."""
    return [
        line
        for members in _by_place(cells).values()
        for line in other_data((c.name, c.config.data_name, c.manifest()) for c in members)
    ]


def _measured(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what a cell stores; None where that is not known."""
    storage = record.get("storage") or {}
    return {name: storage.get(name) for name in MEASURED}


def _shown(cells: Sequence[Cell]) -> list[str]:
    return columns_of(cell.manifest().get("results", {}) for cell in cells)


def _by_place(cells: Sequence[Cell]) -> dict[tuple[str, ...], list[Cell]]:
    places: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        places.setdefault(tuple(cell.axes.values()), []).append(cell)
    return places


def save(found: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write results.csv and results.json."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    write_atomically(out / "results.csv", text.getvalue().encode())
    write_atomically(out / "results.json", f"{json.dumps(found, indent=1)}\n".encode())
