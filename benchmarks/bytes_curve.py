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

from bytes_book import judged, keep, means, record_of, recorded, setting_of, spread
from bytes_cells import BUDGETS, PAIRED, PARTS, PUBLISHED_PAIRS, SHAPES, ByteCell
from cell_runs import check_places, chosen, command, directory, distill, run_all, with_cells
from paper_book import read
from results import METHODS

BOOK = Path(__file__).parent / "bytes.json"


def name_of(cell: ByteCell, seed: int, args: argparse.Namespace) -> str:
    """Return the name of a run directory."""
    name = f"{cell.key}-{setting_of(args, cell)}-{seed}"
    return directory("".join(each if each.isalnum() or each in ".-" else "-" for each in name))


def is_kept(cell: ByteCell, seed: int, args: argparse.Namespace) -> bool:
    """Say whether the book has a run."""
    record = record_of(cell, read(args.book), setting_of(args, cell))
    return record is not None and seed in record["seeds"]


def run(cell: ByteCell, seed: int, run_dir: Path, args: argparse.Namespace) -> bool:
    """Begin a run or go on with it, judge it, and keep it; False if one of these ended early."""
    if distill(command(cell, seed, run_dir, args)):
        return False
    if judged(run_dir, args.nets, args.width) is None:
        judge = ["evaluate", str(run_dir), "--nets", str(args.nets)]
        judge += ["-o", f"backbone.width={args.width}", "-o", "evaluate.controls=false"]
        if distill(judge):
            return False
    setting = setting_of(args, cell)
    record = recorded(cell, seed, setting, run_dir, nets=args.nets, width=args.width)
    if record is not None:
        keep(args.book, record)
    return record is not None


def listed(cells: Sequence[ByteCell], args: argparse.Namespace) -> Iterator[str]:
    """Yield Markdown: a row for each cell, and what was found."""
    records = read(args.book)
    yield "| cell | bytes | test accuracy | seeds | outer steps | minutes |"
    yield "|---|---|---|---|---|---|"
    for cell in cells:
        record = record_of(cell, records, setting_of(args, cell))
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
        if (record := record_of(cell, records, setting_of(args, cell)))
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
    if not args.list:
        check_places(args)
    every = PARTS[args.table](args)
    cells = chosen(every, args.only, f"--table {args.table}")
    failure = "" if args.list or args.report else run_all(cells, args, name_of, is_kept, run)
    shown = table(every, args) if args.table == "pairs" and not args.list else listed(cells, args)
    print("\n".join(shown))
    if others := other_settings(cells, args):
        print(f"kept of these cells, too, in other settings: {'; '.join(others)}")
    if args.figure:
        from bytes_figure import draw

        draw(every, args)
    if failure:
        raise SystemExit(failure)


if __name__ == "__main__":
    main()
