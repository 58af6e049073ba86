"""Finished cells of benchmarks/paper.py: kept in one JSON file, and printed as Markdown."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paper_cells import Cell

from distill_core.artefact.manifest import judged_manifest
from distill_core.system.files import write_atomically

Record = dict[str, Any]
REPORTED = ("cell", "scale", "seed", "steps", "seconds", "curve", "test")


def scale_of(args: argparse.Namespace, cell: Cell, *options: str) -> str:
    """Name the scale of a run: what may differ between rows that must not be mixed.

    Args:
        args: of the command line.
        cell: which run.
        options: "name=value", beside those of the command line.
    """
    steps = cell.steps or args.steps
    length = f"{steps} steps" if steps else f"{args.minutes:g} minutes"
    if args.full:
        length = f"published, {args.steps} steps" if args.steps else "published"
    return ", ".join([length, *by_name([*args.option, *options])])


def by_name(chosen: Sequence[str]) -> list[str]:
    """Return options, "name=value", in the order of their names: the order makes no other run.

    Of one that is given twice the last counts, and stays the last.
    """
    return sorted(chosen, key=lambda option: option.partition("=")[0])


def recorded(cell: Cell, seed: int, scale: str, run_dir: Path) -> Record | None:
    """Return what is kept of a finished run; None if it is not finished."""
    if not (manifest := judged_manifest(run_dir)):
        return None
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return {
        "cell": cell.key,
        "scale": scale,
        "seed": seed,
        "steps": manifest["outer_steps"],
        "seconds": round(manifest["seconds"]),
        "ipc": manifest["budget"]["ipc"],
        "labels": manifest["budget"]["label_numbers"],
        "curve": [
            [line["step"], round(100 * statistics.fmean(line["accuracies"]), 2)]
            for line in lines
            if line["kind"] == "validation"
        ],
        "test": [round(100 * each, 2) for each in manifest["results"]["distilled"]["accuracies"]],
        "order": manifest["class_order"],
    }


def keep(book: Path, record: Record) -> None:
    """Add a record to the file; several processes may do so at once."""
    change(
        book,
        lambda records: [
            *(each for each in records if identity(each) != identity(record)),
            record,
        ],
    )


def change(book: Path, changed: Callable[[list[Record]], list[Record]]) -> None:
    """Replace the records by what `changed` makes of them, while no other process does."""
    book.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(book.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        lines = ",\n".join(map(json.dumps, changed(read(book))))
        write_atomically(book, f"[\n{lines}\n]\n".encode())
    finally:
        os.close(folder)


def read(book: Path) -> list[Record]:
    """Return all records; none if there is no file.

    Raises:
        SystemExit: it is no such file.
    """
    try:
        found = json.loads(book.read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"--book {book} cannot be read: {error}. Restore it from a copy, or name another file."
        ) from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise SystemExit(f"--book {book} is no list of finished cells: name another file.")
    return found


def finished(book: Path) -> list[Record]:
    """Return all records of this script.

    Raises:
        SystemExit: it is no such file, or that of another script.
    """
    records = read(book)
    for number, each in enumerate(records, 1):
        if missing := [name for name in REPORTED if name not in each]:
            raise SystemExit(
                f"--book {book} is no list of finished cells: its record {number} has no "
                f"'{missing[0]}'. Take that out, or name another file."
            )
    return records


def identity(record: Mapping[str, Any]) -> tuple[str, str, int]:
    """Return what tells a record from all others."""
    return record["cell"], record["scale"], record["seed"]


def table(cells: Sequence[Cell], records: Sequence[Record], scale: str) -> Iterator[str]:
    """Yield Markdown: a row for each cell, with the paper's figure and ours over seeds, and the
    deviation over the networks of a seed, a mean of all seeds."""
    yield (
        "| dataset | cell | paper | ours, over seeds | over networks | seeds x networks "
        "| outer steps | minutes |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for cell in cells:
        ours = _ours(records_of(cell, records, scale))
        yield f"| {' | '.join((cell.dataset, cell.name, cell.printed or '-', *ours))} |"


def records_of(cell: Cell, records: Sequence[Record], scale: str) -> list[Record]:
    """Return the records of a cell at a scale, by seed."""
    found = [each for each in records if (each["cell"], each["scale"]) == (cell.key, scale)]
    return sorted(found, key=lambda each: each["seed"])


def mean(record: Record) -> float:
    """Return the test accuracy of a run over its networks, percent."""
    return statistics.fmean(record["test"])


def over_seeds(values: Sequence[float]) -> str:
    """Return mean and deviation over seeds as text."""
    if len(values) == 1:
        return f"{values[0]:.1f} (one seed)"
    return f"{statistics.fmean(values):.1f} +- {statistics.stdev(values):.1f}"


def _ours(found: Sequence[Record]) -> list[str]:
    if not found:
        return ["not measured", "", "", "", ""]
    deviations = [statistics.stdev(each["test"]) for each in found if len(each["test"]) > 1]
    return [
        over_seeds([mean(each) for each in found]),
        f"+- {statistics.fmean(deviations):.1f}" if deviations else "",
        f"{len(found)} x {len(found[0]['test'])}",
        _range([each["steps"] for each in found]),
        _range([round(each["seconds"] / 60) for each in found]),
    ]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
