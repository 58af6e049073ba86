"""The runs of cells, for benchmarks/paper.py and bytes_curve.py: each a process of one thread that
may be ended at any moment, and that the same command goes on with."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from number_ranges import count, numbers
from paper_cells import DATASETS, Cell, options, place, place_of_images

from distill_core.system.children import end_with_parent
from distill_core.system.flock import flock

C = TypeVar("C", bound=Cell)
LONGEST_NAME = 200  # bytes of a directory's name; file systems have 255


def directory(name: str) -> str:
    """Return the name of a directory: one folder's, and not longer than file systems take."""
    name = name.replace("/", "-")
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name.encode()[: LONGEST_NAME - 17].decode(errors='ignore')}-{digest}"


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Say whether this process has the run to itself; the system frees it if it dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            flock(file.fileno())
        except BlockingIOError:
            yield False
        else:
            yield True


def run_all(
    cells: Sequence[C],
    args: argparse.Namespace,
    name_of: Callable[[C, int, argparse.Namespace], str],
    is_kept: Callable[[C, int, argparse.Namespace], bool],
    run: Callable[[C, int, Path, argparse.Namespace], bool],
) -> str:
    """Make every run that is not kept, seed by seed, so that all cells grow together.

    Args:
        cells: what is run.
        args: of the script.
        name_of: names the directory of a run.
        is_kept: says whether the book has a run, by now.
        run: makes a run and keeps it; false if it ended early.

    Returns:
        Why a run has no results, which ends this; empty if nothing went wrong.
    """
    there = sum(is_kept(cell, seed, args) for seed in args.seeds for cell in cells)
    if there:
        whole = len(args.seeds) * len(cells)
        print(f"{there} of {whole} runs are kept in {args.book}; another --book makes them anew")
    for seed in args.seeds:
        for cell in cells:
            if is_kept(cell, seed, args):
                continue
            name = name_of(cell, seed, args)
            run_dir = args.out / name
            with claimed(args.out / "claims" / name) as ours:
                if not ours:
                    print(f"{run_dir}: another process is running it; skipped")
                elif is_kept(cell, seed, args):
                    continue  # by one that has just finished it
                elif not run(cell, seed, run_dir, args):
                    return (
                        f"no results of {run_dir}: its run was interrupted or refused, as it says "
                        "above. The same command goes on."
                    )
    return ""


def command(cell: Cell, seed: int, run_dir: Path, args: argparse.Namespace) -> list[str]:
    """Return the words for `distill` that begin a run, or go on with it."""
    if (run_dir / "run.toml").exists():
        # Images may have moved. Embeddings are not read again: the run has its class order.
        return ["run", "--resume", "--out", str(run_dir), *place_of_images(cell, args)]
    # Who asks for so many steps means all of them: --yes.
    words = ["run", "--yes", *cell.words, *place(cell, args), "--seed", str(seed)]
    words += ["--out", str(run_dir)]
    if steps := cell.steps or args.steps:
        words += ["--steps", str(steps)]
    if not args.full:
        # Presets for an hour have minutes, and a run ends by what comes first.
        by_minutes = ["--steps", "1000000", "--minutes", str(args.minutes)]
        words += options("run.minutes=none") if steps else by_minutes
        words += options("run.procs=1", "run.threads=1", "evaluate.controls=false")
    return [*words, *options(*args.option)]


def distill(words: list[str]) -> int:
    """Run `distill` with these words in a process of its own; return its exit status.

    Ctrl-C, which a terminal sends to both, ends the run alone: it saves its state first. So it does
    where this process ends, and the run does not go on unseen.
    """
    before = signal.signal(signal.SIGINT, lambda *_: None)  # a child does not inherit it
    try:
        return subprocess.run(
            [sys.executable, "-m", "distill_core", *words],
            check=False,
            preexec_fn=partial(end_with_parent, os.getpid()),
        ).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def with_cells(parser: argparse.ArgumentParser, *, out: str, book: Path, example: str) -> None:
    """Add the arguments that say which runs are made, of what data, and where.

    Args:
        parser: of a script.
        out: the usual folder of its runs.
        book: where its finished cells are kept.
        example: the name of a cell.
    """
    parser.add_argument("--out", type=Path, default=Path(out), help="run directories")
    parser.add_argument("--book", type=Path, default=book, help="JSON of the finished cells")
    parser.add_argument(
        "--data",
        type=pairs,
        action="append",
        default=[],
        metavar="DATASET=PATH",
        help="its images, a folder or .zip of train/CLASS/* and test/CLASS/*",
    )
    parser.add_argument(
        "--embeddings",
        type=pairs,
        action="append",
        default=[],
        metavar="DATASET=FILE.npz",
        help="CLIP's embeddings of its class names, for PoCO",
    )
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="such as 0-2, the default")
    parser.add_argument("--minutes", type=float, default=60.0, help="of a run, if no steps")
    parser.add_argument("--steps", type=count, help="outer steps of a run instead")
    parser.add_argument("--only", nargs="+", help=f"names of some cells, such as '{example}'")
    parser.add_argument("-o", dest="option", action="append", default=[], help="for every run")
    parser.add_argument("--report", action="store_true", help="print what is there, run nothing")


def pairs(text: str) -> tuple[str, str]:
    """Read DATASET=PATH."""
    name, _, path = text.partition("=")
    if name not in DATASETS or not path:
        raise argparse.ArgumentTypeError(f"DATASET=PATH, with a dataset of {', '.join(DATASETS)}")
    return name, path


def check_places(args: argparse.Namespace) -> None:
    """Refuse paths that are not there, of a command that runs something.

    Raises:
        SystemExit: a path of --data or --embeddings is not there.
    """
    for flag in () if args.report else ("data", "embeddings"):
        for name, path in getattr(args, flag).items():
            if not Path(path).exists():
                raise SystemExit(f"--{flag} {name}={path}: there is no such path; correct it.")


def chosen(cells: Sequence[C], names: Sequence[str] | None, whole: str) -> list[C]:
    """Return the cells that --only names, or all.

    Raises:
        SystemExit: a name is of no cell.
    """
    known = dict.fromkeys(cell.name for cell in cells)
    if unknown := [name for name in names or () if name not in known]:
        raise SystemExit(f"no cell '{unknown[0]}': {whole} has {', '.join(known)}.")
    return [cell for cell in cells if not names or cell.name in names]
