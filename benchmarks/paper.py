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
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from cell_runs import claimed, command, distill, with_cells
from paper_book import identity, keep, mean, of, read, recorded, table
from paper_borders import borders_of
from paper_cells import CORRELATION, DATASETS, ORDERS, PARTS, Cell, place
from paper_curves import curves, draw
from scipy.stats import pearsonr

from distill_core.artefact.contents import POSTER_GRID
from distill_core.plugin import cosine_distances, ordering_score

BOOK = Path(__file__).parent / "paper.json"
PICTURES = ("figure 8", "figure 9")


def scale_of(args: argparse.Namespace, cell: Cell) -> str:
    """Name the scale of a run: what may differ between rows that must not be mixed."""
    steps = cell.steps or args.steps
    length = f"{steps} steps" if steps else f"{args.minutes:g} minutes"
    if args.full:
        length = f"published, {args.steps} steps" if args.steps and not cell.steps else "published"
    return ", ".join([length, *args.option])


def run_all(cells: list[Cell], args: argparse.Namespace) -> str:
    """Make every run that is not there, seed by seed, so that all rows grow together.

    Returns:
        Why a run has no results, which ends this; empty if nothing went wrong.
    """
    for seed in args.seeds:
        for cell in cells:
            scale = scale_of(args, cell)
            if _is_kept(args.book, cell, scale, seed):
                continue
            run_dir = run_dir_of(cell, seed, args)
            with claimed(args.out / "claims" / name_of(cell, seed, args)) as ours:
                if not ours:
                    print(f"{run_dir}: another process has it")
                    continue
                if _is_kept(args.book, cell, scale, seed):  # by one that has just finished it
                    continue
                failed = distill(command(cell, seed, run_dir, args))
                record = None if failed else recorded(cell, seed, scale, run_dir)
                if record is None:
                    return f"no results of {run_dir}: its run ended early, see above."
                keep(args.book, record)
    return ""


def name_of(cell: Cell, seed: int, args: argparse.Namespace) -> str:
    """Return the name of a run, which no other of its book has."""
    return f"{cell.key}-{scale_of(args, cell)}-{seed}".replace(" ", "-").replace(",", "")


def run_dir_of(cell: Cell, seed: int, args: argparse.Namespace) -> Path:
    """Return where a run is, or will be."""
    return args.out / name_of(cell, seed, args).replace("=", "-")


def _is_kept(book: Path, cell: Cell, scale: str, seed: int) -> bool:
    return (cell.key, scale, seed) in map(identity, read(book))


def report(part: str, cells: list[Cell], args: argparse.Namespace) -> Iterator[str]:
    """Yield Markdown of what is there."""
    records = read(args.book)
    scales = dict.fromkeys(scale_of(args, cell) for cell in cells)
    for scale in scales:
        rows = [cell for cell in cells if scale_of(args, cell) == scale]
        yield from (f"**{part}, {scale}**", "", *table(rows, records, scale), "")
        if args.curves:
            yield from (*curves(rows, records, scale), "")
        if args.draw:
            draw(rows, records, scale, args.draw)
    keys = {cell.key for cell in cells}
    others = {each["scale"] for each in records if each["cell"] in keys} - scales.keys()
    if others:
        yield f"kept of these cells, too, for other lengths or -o: {'; '.join(sorted(others))}"
    if part == "ablation order":
        yield from correlation(cells, args)
    if part in PICTURES:
        for cell, seed in itertools.product(cells, args.seeds):
            run_dir = run_dir_of(cell, seed, args)
            picture = run_dir / POSTER_GRID
            if not (_is_kept(args.book, cell, scale_of(args, cell), seed) and picture.exists()):
                continue  # not finished, or kept on another machine
            target = args.out / f"{part.replace(' ', '-')}-{run_dir.name}.png"
            shutil.copyfile(picture, target)
            yield f"picture: {target}"
            if part == "figure 8":
                yield borders_of(run_dir)


def correlation(cells: list[Cell], args: argparse.Namespace) -> Iterator[str]:
    """Correlate scores of class orders, by the embeddings of the names, with test accuracies."""
    file = args.embeddings.get("cifar10")
    if file is None:
        yield "Correlation: pass --embeddings cifar10=FILE.npz for the scores of the orders."
        return
    stored = np.load(file, allow_pickle=False)
    names = [str(name) for name in stored["names"]]
    distances = cosine_distances(torch.from_numpy(stored["embeddings"].astype(np.float64)))
    records = read(args.book)
    scores, accuracies = [], []
    yield "| order | its score | accuracy |"
    yield "|---|---|---|"
    for cell in cells:
        found = of(cell, records, scale_of(args, cell))
        if found:
            order = found[0]["order"]
            if missing := {name for row in order for name in row} - set(names):
                raise SystemExit(f"{file} has no {', '.join(sorted(missing))}, which are classes.")
            grid = [[names.index(name) for name in row] for row in order]
            scores.append(ordering_score(torch.tensor(grid), distances))
            accuracies.append(statistics.fmean(map(mean, found)))
            yield f"| {cell.name} | {scores[-1]:.3f} | {accuracies[-1]:.1f} |"
    yield ""
    if len(scores) < 4:
        yield f"Correlation: {len(scores)} orders are too few (paper: {CORRELATION}, 5 orders)."
        return
    found_r = pearsonr(scores, accuracies)
    low, high = found_r.confidence_interval(0.95)
    yield (
        f"Correlation of {len(scores)} orders: {found_r.statistic:.2f}, 95 % interval {low:.2f} to "
        f"{high:.2f} (paper: {CORRELATION}, 5 orders)."
    )


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
    parser.add_argument("--orders", type=int, default=ORDERS, help="random class orders")
    parser.add_argument("--full", action="store_true", help="the published settings")
    parser.add_argument("--curves", action="store_true", help="print accuracy against steps, too")
    parser.add_argument("--draw", type=Path, help="draw accuracy against steps into this file")
    args = parser.parse_args(words)
    args.data, args.embeddings = dict(args.data), dict(args.embeddings)
    kind = next(kind for kind in ("table", "figure", "ablation") if getattr(args, kind))
    part = f"{kind} {getattr(args, kind)}"
    if part == "figure 7" and args.report:
        parser.error("figure 7 is made in seconds and kept nowhere: leave --report out")
    if part == "figure 7" and not args.full and "cifar100" not in args.data:
        parser.error("figure 7 is of CIFAR-100: say where it is with --data cifar100=PATH")
    if not (args.full or args.report or args.data):
        parser.error("say where images are: --data DATASET=PATH")
    return part, args


def chosen(part: str, args: argparse.Namespace) -> list[Cell]:
    """Return the cells of a part that --only names, or all.

    Raises:
        SystemExit: a name is of no cell.
    """
    cells = PARTS[part](args)
    names = dict.fromkeys(cell.name for cell in cells)
    if unknown := [name for name in args.only or () if name not in names]:
        raise SystemExit(f"no cell '{unknown[0]}': {part} has {', '.join(names) or 'none'}.")
    return [cell for cell in cells if not args.only or cell.name in args.only]


def main() -> None:
    part, args = arguments()
    if part == "figure 7":
        raise SystemExit(figure_7(args))
    if args.report and not args.data:
        args.data = dict.fromkeys(DATASETS, "")
    cells = chosen(part, args)
    failure = "" if args.report else run_all(cells, args)
    for line in report(part, cells, args):
        print(line, flush=True)
    if failure:
        raise SystemExit(f"{failure} The same command goes on.")


if __name__ == "__main__":
    main()
