"""The figure of benchmarks/bytes_curve.py: test accuracy against bytes, and what papers report."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from bytes_book import PUBLISHED, longest, means, record_of, setting_of
from bytes_cells import CORESETS, ByteCell, limit_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from paper_book import Record, read

SHOWN = (0.05, 3.0)  # the axis of bytes, in float32 images per class


def draw(cells: Sequence[ByteCell], args: argparse.Namespace) -> None:
    """Draw test accuracy against bytes on a log scale, with published points beside.

    Points are of one setting, that of the arguments, which the title names; or, if asked, each is
    of the longest runs of its cell, and says its minutes and its seeds.
    """
    records = read(args.book)
    lines: dict[str, list[Record]] = {}
    for cell in cells:
        setting = setting_of(args, cell)
        if record := longest(cell, records) if args.longest else record_of(cell, records, setting):
            lines.setdefault(cell.representation, []).append(record)
    learned = [r for r in records if r["dataset"] == args.dataset and r["algorithm"] != "none"]
    others = {record["setting"] for record in learned}
    if others and not set(lines) - set(CORESETS):
        raise SystemExit(
            f"nothing is measured with {setting_of(args, cells[-1])}; a figure has one setting. "
            f"There are: {' | '.join(sorted(others))}. Say one with --minutes, --nets, --width "
            "and -o, or all with --longest."
        )
    figure = Figure(figsize=(9, 5.5))
    axes = figure.subplots()
    markers = "osD^v<>pPX*h"
    for number, (name, records_of) in enumerate(lines.items()):
        found = sorted(records_of, key=lambda each: each["bytes"])
        values = [means(each) for each in found]
        axes.errorbar(
            [each["bytes"] for each in found],
            [statistics.fmean(each) for each in values],
            [statistics.stdev(each) if len(each) > 1 else 0.0 for each in values],
            marker=markers[number % len(markers)],
            color="0.4" if name in CORESETS else f"C{number % 10}",
            linestyle=":" if name in CORESETS else "-",
            label=name,
        )
        if args.longest and name not in CORESETS:
            for each, value in zip(found, values, strict=True):
                seeds = "1 seed" if len(value) == 1 else f"{len(value)} seeds"
                text = f"{statistics.fmean(each['seconds']) / 60:.0f} min, {seeds}"
                place = (each["bytes"], statistics.fmean(value))
                axes.annotate(text, place, (5, 5), textcoords="offset points", fontsize=6)
    published(axes, args.dataset)
    axes.set_xscale("log")
    axes.set_xlim(*(limit_of(args.dataset, ipc) for ipc in SHOWN))
    axes.set(xlabel="bytes of everything needed to train", ylabel="test accuracy, %")
    setting = "minutes of one thread" if args.longest else setting_of(args, cells[-1])
    measured = f"lines are measured here ({setting})" if lines else "no lines"
    axes.set_title(f"{args.dataset}: {measured}, crosses are published", fontsize=7)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=7)
    figure.tight_layout()
    args.figure.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.figure, dpi=110)


def published(axes: Axes, dataset: str) -> None:
    """Mark what papers report, names to both sides; "?" where it was not read there again."""
    there = [(each, point) for each in PUBLISHED if (point := each.point(dataset))]
    there.sort(key=lambda pair: pair[1][1])
    for number, (each, point) in enumerate(there):
        axes.plot(*point, "x", color="0.2")
        apart = " (labels apart)" if "labels" in each.counted else ""
        text = f"{each.method}{'?' if each.recalled else ''}{apart}"
        place, side = ((6, -2), "left") if number % 2 else ((-6, -2), "right")
        axes.annotate(text, point, place, ha=side, textcoords="offset points", fontsize=6)
