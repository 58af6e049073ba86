"""Bytes against accuracy: every representation, real images, coresets, and what papers report.

    python benchmarks/bytes_curve.py --data cifar10=cifar10.zip --embeddings cifar10=cifar10.npz \
        --out runs/bytes --minutes 60 --seeds 0-2
    python benchmarks/bytes_curve.py --list                      # the cells, and what is there
    python benchmarks/bytes_curve.py --only "fred 1" "poster 1"  # some of them
    python benchmarks/bytes_curve.py --report --figure docs/images/bytes-cifar10.png
    python benchmarks/bytes_curve.py --table pairs --budgets 1 --minutes 10 --data ...
    python benchmarks/bytes_curve.py --dataset digits --steps 20 # to try it

Cells are run one by one, each in a process of one thread, and judged by fresh networks of --width.
Any of them may be ended; the same command goes on. Start it twice to use two cores. Finished cells
are kept in --book. Nothing is chosen by test accuracies.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from bytes_book import PUBLISHED, judged, keep, longest, means, of, recorded, spread
from bytes_cells import (
    BUDGETS,
    CORESETS,
    PAIRED,
    PARTS,
    PUBLISHED_PAIRS,
    SHAPES,
    ByteCell,
    limit_of,
)
from cell_runs import claimed, command, distill, with_cells
from matplotlib import pyplot
from paper_book import Record, read
from results import METHODS

LEAST, MOST = 0.05, 3.0  # of the axis of bytes, in float32 images per class
BOOK = Path(__file__).parent / "bytes.json"


def setting_of(args: argparse.Namespace, cell: ByteCell) -> str:
    """Name what may differ between records that must not be mixed.

    `evaluate.nets` is of the run's own judging: another number of networks is asked apart.
    """
    length = f"{args.steps} steps" if args.steps else f"{args.minutes:g} minutes"
    length = "nothing learned" if cell.algorithm == "none" else length
    judged = f"{args.nets} networks of width {args.width}"
    told = (option for option in args.option if not option.startswith("evaluate.nets="))
    return ", ".join([length, judged, *told])


def run_all(cells: Sequence[ByteCell], args: argparse.Namespace) -> str:
    """Make every run that is not there, seed by seed, so that all lines grow together.

    Returns:
        Why a run has no results, which ends this; empty if nothing went wrong.
    """
    for seed in args.seeds:
        for cell in cells:
            setting = setting_of(args, cell)
            name = "".join(
                c if c.isalnum() or c in ".-" else "-" for c in f"{cell.key}-{setting}-{seed}"
            )
            if seed in _seeds(cell, args):
                continue
            with claimed(args.out / "claims" / name) as ours:
                if not ours:
                    print(f"{name}: another process has it")
                elif seed not in _seeds(cell, args):  # by one that has just finished it
                    record = run(cell, seed, args.out / name, args)
                    if record is None:
                        return f"no results of {args.out / name}: it ended early, see above."
                    keep(args.book, record)
    return ""


def run(cell: ByteCell, seed: int, run_dir: Path, args: argparse.Namespace) -> Record | None:
    """Begin a run or go on with it, judge it, and return what is kept; None if one ended early."""
    if distill(command(cell, seed, run_dir, args)):
        return None
    if judged(run_dir, args.nets, args.width) is None:
        judge = ["evaluate", str(run_dir), "--nets", str(args.nets)]
        judge += ["-o", f"backbone.width={args.width}", "-o", "evaluate.controls=false"]
        if distill(judge):
            return None
    setting = setting_of(args, cell)
    return recorded(cell, seed, setting, run_dir, nets=args.nets, width=args.width)


def _seeds(cell: ByteCell, args: argparse.Namespace) -> list[int]:
    record = of(cell, read(args.book), setting_of(args, cell))
    return record["seeds"] if record else []


def listed(cells: Sequence[ByteCell], args: argparse.Namespace) -> Iterator[str]:
    """Yield Markdown: a row for each cell, and what was found."""
    records = read(args.book)
    yield "| cell | bytes | test accuracy | seeds | outer steps | minutes |"
    yield "|---|---|---|---|---|---|"
    for cell in cells:
        record = of(cell, records, setting_of(args, cell))
        if record is None:
            yield f"| {cell.name} | | not measured | | | |"
            continue
        steps, minutes = record["steps"], [each / 60 for each in record["seconds"]]
        yield (
            f"| {cell.name} | {record['bytes']:,} | {spread(record)} | {len(record['seeds'])} | "
            f"{statistics.fmean(steps):.0f} | {statistics.fmean(minutes):.0f} |"
        )


def other_settings(cells: Sequence[ByteCell], args: argparse.Namespace) -> list[str]:
    """Return the settings that cells were run in, and that are not those asked for."""
    names, asked = {cell.name for cell in cells}, {setting_of(args, cell) for cell in cells}
    found = {
        record["setting"]
        for record in read(args.book)
        if record["name"] in names and record["dataset"] == args.dataset
    }
    return sorted(found - asked)


def table(cells: Sequence[ByteCell], args: argparse.Namespace) -> Iterator[str]:
    """Yield Markdown: representations down, algorithms across, at equal bytes and equal time."""
    records = read(args.book)
    places = {(cell.representation, cell.algorithm): cell for cell in cells}
    values = {
        place: record
        for place, cell in places.items()
        if (record := of(cell, records, setting_of(args, cell)))
    }
    best = max(values, key=lambda place: statistics.fmean(means(values[place])), default=None)
    yield f"| {args.dataset}, {args.budgets[0]:g} IPC of bytes | {' | '.join(METHODS)} |"
    yield f"|---{'|---' * len(METHODS)}|"
    for name in PAIRED:
        row = []
        for method in METHODS:
            text = spread(values.get((name, method)))
            text = f"**{text}**" if (name, method) == best else text
            row.append(f"{text}*" if text and (name, method) in PUBLISHED_PAIRS else text)
        yield f"| {name} | {' | '.join(row)} |"
    yield ""
    yield f"{len(values)} of {len(places)} pairs. *: of a pair that a paper has, as far as we know."
    if best:
        known = "a published pair" if best in PUBLISHED_PAIRS else "a pair that we know of no paper"
        yield f"Best: {best[0]} x {best[1]}, {known}."


def draw(cells: Sequence[ByteCell], args: argparse.Namespace) -> None:
    """Draw test accuracy against bytes on a log scale, with published points beside.

    Points are of one setting, that of the arguments, which the title names; or, if asked, each is
    of the longest runs of its cell, and says its minutes and its seeds.
    """
    records = read(args.book)
    lines: dict[str, list[Record]] = {}
    for cell in cells:
        setting = setting_of(args, cell)
        if record := longest(cell, records) if args.longest else of(cell, records, setting):
            lines.setdefault(cell.representation, []).append(record)
    learned = [r for r in records if r["dataset"] == args.dataset and r["algorithm"] != "none"]
    others = {record["setting"] for record in learned}
    if others and not set(lines) - set(CORESETS):
        raise SystemExit(
            f"nothing is measured with {setting_of(args, cells[-1])}; a figure has one setting. "
            f"There are: {' | '.join(sorted(others))}. Say one with --minutes, --nets, --width "
            "and -o, or all with --longest."
        )
    figure, axes = pyplot.subplots(figsize=(9, 5.5))
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
    axes.set_xlim(limit_of(args.dataset, LEAST), limit_of(args.dataset, MOST))
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
    pyplot.close(figure)


def published(axes: pyplot.Axes, dataset: str) -> None:
    """Mark what papers report, names to both sides; "?" where it was not read there again."""
    there = [(each, point) for each in PUBLISHED if (point := each.point(dataset))]
    there.sort(key=lambda pair: pair[1][1])
    for number, (each, point) in enumerate(there):
        axes.plot(*point, "x", color="0.2")
        apart = " (labels apart)" if "labels" in each.counted else ""
        text = f"{each.method}{'?' if each.recalled else ''}{apart}"
        place, side = ((6, -2), "left") if number % 2 else ((-6, -2), "right")
        axes.annotate(text, point, place, ha=side, textcoords="offset points", fontsize=6)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", choices=sorted(PARTS), default="curve")
    parser.add_argument("--dataset", choices=sorted(SHAPES), default="cifar10")
    with_cells(parser, out="runs/bytes", book=BOOK, example="fred 1")
    parser.add_argument(
        "--budgets", type=float, nargs="+", help="in float32 images per class (0.1 0.4 1)"
    )
    parser.add_argument("--nets", type=int, default=8, help="fresh networks that judge a run")
    parser.add_argument("--width", type=int, default=128, help="of these")
    parser.add_argument("--list", action="store_true", help="print all cells, run nothing")
    parser.add_argument("--figure", type=Path, help="draw what is there into this file")
    parser.add_argument(
        "--longest", action="store_true", help="draw the longest runs of each cell, in any setting"
    )
    args = parser.parse_args(words)
    args.data, args.embeddings = dict(args.data), dict(args.embeddings)
    args.full = False
    args.budgets = args.budgets or (list(BUDGETS) if args.table == "curve" else [1.0])
    if args.table == "pairs" and len(args.budgets) > 1:
        parser.error("a table of pairs has one budget: --budgets 1")
    reads = args.list or args.report
    if not (reads or args.dataset in args.data or args.dataset == "digits"):
        parser.error(f"say where images are: --data {args.dataset}=PATH")
    return args


def main() -> None:
    args = arguments()
    every = PARTS[args.table](args)
    cells = [cell for cell in every if not args.only or cell.name in args.only]
    if not cells:
        raise SystemExit("no such cells: --only takes names of --list.")
    failure = "" if args.list or args.report else run_all(cells, args)
    shown = table(every, args) if args.table == "pairs" and not args.list else listed(cells, args)
    print("\n".join(shown))
    if others := other_settings(cells, args):
        print(f"kept of these cells, too, in other settings: {'; '.join(others)}")
    if args.figure:
        draw(every, args)
    if failure:
        raise SystemExit(f"{failure} The same command goes on.")


if __name__ == "__main__":
    main()
