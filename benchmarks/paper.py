"""The tables and figures of the PoDD paper, each by one command.

    python benchmarks/paper.py --table 1 --out runs/paper --data cifar10=cifar10.zip \
        --data cifar100=cifar100.zip --embeddings cifar10=cifar10.npz
    python benchmarks/paper.py --figure 6 --out runs/paper --data cifar10=cifar10.zip --seeds 0-2
    python benchmarks/paper.py --ablation order --out runs/paper --data cifar10=cifar10.zip
    python benchmarks/paper.py --figure 7 --data cifar100=cifar100.zip --embeddings ...
    python benchmarks/paper.py --table 1 --full --out runs/paper      # published settings: a GPU
    python benchmarks/paper.py --table 1 --out runs/paper --report    # what is there, run nothing

Every run is a process of one thread. Start the command twice to use two cores: a run that the other
has claimed is left to it. It may be ended at any moment; the same command goes on. If a run fails,
what is there is printed all the same. Finished cells are kept in --book, which `--report` prints:
mean and deviation of test accuracies over seeds, and over the networks of a seed. Nothing is chosen
by them.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from cell_runs import check_places, chosen, command, directory, distill, run_all, with_cells
from number_ranges import count
from paper_book import finished, identity, keep, recorded, scale_of, table
from paper_cells import DATASETS, ORDERS, PARTS, Cell, place
from paper_curves import curves, draw, lines_of

from distill_core.artefact.contents import POSTER_GRID

BOOK = Path(__file__).parent / "paper.json"
PICTURES = ("figure 8", "figure 9")
FIXED_STEPS = ("figure 6", "ablation order")  # by the paper


def name_of(cell: Cell, seed: int, args: argparse.Namespace) -> str:
    """Return the name of a run directory, which no other run has."""
    name = f"{cell.key}-{scale_of(args, cell)}-{seed}"
    return directory(name.replace(" ", "-").replace(",", "").replace("=", "-"))


def is_kept(cell: Cell, seed: int, args: argparse.Namespace) -> bool:
    """Say whether the book has a run."""
    return (cell.key, scale_of(args, cell), seed) in map(identity, finished(args.book))


def run(cell: Cell, seed: int, run_dir: Path, args: argparse.Namespace) -> bool:
    """Begin a run or go on with it, and keep it in the book; False if it ended early."""
    if distill(command(cell, seed, run_dir, args)):
        return False
    record = recorded(cell, seed, scale_of(args, cell), run_dir)
    if record is not None:
        keep(args.book, record)
    return record is not None


def report(part: str, cells: list[Cell], args: argparse.Namespace) -> Iterator[str]:
    """Yield Markdown of what is there; draw it and copy pictures, if asked."""
    records, scale = finished(args.book), scale_of(args, cells[0])  # that of all cells of a part
    yield from (f"**{part}, {scale}**", "", *table(cells, records, scale), "")
    also = {scale_of(args, cells[0], option): option for option in args.also}
    lines = lines_of(cells, records, {scale: "", **also})
    if args.curves:
        yield from (*curves(lines), "")
    if args.draw:
        draw(lines, scale, args.draw)
    keys = {cell.key for cell in cells}
    others = {each["scale"] for each in records if each["cell"] in keys} - {scale}
    if others:
        yield f"kept of these cells, too, for other lengths or -o: {'; '.join(sorted(others))}"
    if part == "ablation order":
        from paper_orders import correlation

        yield from correlation(cells, records, scale, args.embeddings.get("cifar10"))
    if part in PICTURES:
        yield from pictures(part, cells, args)


def pictures(part: str, cells: list[Cell], args: argparse.Namespace) -> Iterator[str]:
    """Copy the pictures of finished runs beside them; say where, and figure 8's claim in numbers.

    Runs that were kept on another machine have none here, which is said.
    """
    from paper_borders import borders_of

    for cell, seed in itertools.product(cells, args.seeds):
        if not is_kept(cell, seed, args):
            continue
        run_dir = args.out / name_of(cell, seed, args)
        picture = run_dir / POSTER_GRID
        if not picture.exists():
            yield f"picture: {run_dir} is not here, only its figures; another --book makes it anew"
            continue
        target = args.out / f"{part.replace(' ', '-')}-{run_dir.name}.png"
        shutil.copyfile(picture, target)
        yield f"picture: {target}"
        if part == "figure 8":
            yield borders_of(run_dir)


def figure_7(args: argparse.Namespace) -> int:
    """Print PoCO's grid of CIFAR-100 beside the printed one, with their scores; return the exit
    status."""
    words = ["order", "--orderer", "poco", "--compare", "published", "--compare", "qap"]
    words += ["--out", str(args.out / "figure-7.png"), "--dataset", "cifar100"]
    words += place(Cell("cifar100", "", ()), args)  # names its own dataset where there are files
    args.out.mkdir(parents=True, exist_ok=True)
    return distill(words)


def arguments(words: list[str] | None = None) -> tuple[str, argparse.Namespace]:
    """Read the command line: which part, and its settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--table", choices=("1", "2"))
    which.add_argument("--figure", choices=("6", "7", "8", "9"))
    which.add_argument("--ablation", choices=("order",))
    with_cells(parser, out="runs/paper", book=BOOK, example="poster 0.4")
    parser.add_argument("--orders", type=count, default=ORDERS, help="random class orders")
    parser.add_argument("--full", action="store_true", help="the published settings")
    parser.add_argument("--curves", action="store_true", help="print accuracy against steps, too")
    parser.add_argument("--draw", type=Path, help="draw accuracy against steps into this file")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option: curves of runs that were made with it, too",
    )
    args = parser.parse_args(words)
    args.data, args.embeddings = dict(args.data), dict(args.embeddings)
    kind = next(kind for kind in ("table", "figure", "ablation") if getattr(args, kind))
    part = f"{kind} {getattr(args, kind)}"
    if part == "figure 7" and args.report:
        parser.error("figure 7 is made in seconds and kept nowhere: leave --report out")
    if args.also and not (args.curves or args.draw):
        parser.error("--also adds curves: use it with --curves or --draw")
    if part in FIXED_STEPS and args.steps:
        parser.error(f"{part} has the paper's outer steps: leave --steps out")
    if not (args.full or args.report):
        dataset = "cifar100" if part == "figure 7" else "cifar10"
        if kind != "table" and dataset not in args.data:
            parser.error(f"{part} is of {dataset}: say where it is with --data {dataset}=PATH")
        if not args.data:
            parser.error("say where images are: --data DATASET=PATH")
    return part, args


def main() -> None:
    part, args = arguments()
    check_places(args)
    if part == "figure 7":
        raise SystemExit(figure_7(args))
    if args.report and not args.data:
        args.data = dict.fromkeys(DATASETS, "")
    cells = chosen(PARTS[part](args), args.only, part)
    failure = "" if args.report else run_all(cells, args, name_of, is_kept, run)
    for line in report(part, cells, args):
        print(line, flush=True)
    if failure:
        raise SystemExit(failure)


if __name__ == "__main__":
    main()
