"""The README's first command over seeds: how good it is, and how sure, under one or more settings.

    python benchmarks/first_command.py --out FILE.json --seeds 0-11 --threads 1 \
        --variant default "" --variant clipped "algo.label_clip=true"

Each cell (variant, threads, seed) is a run of its own, one after the other, and is kept in FILE as
soon as it is done: a call that was ended goes on where it was. Variants are compared by the
validation split; the test accuracy is shown beside it, and selects nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from number_ranges import numbers

COMMAND = (
    "run",
    "--repr",
    "poster",
    "--labeler",
    "poddl",
    "--orderer",
    "poco",
    "--algo",
    "ratbptt",
)
NETS = 8
SMOOTH = 10  # outer steps whose mean loss counts as the loss at a time

Cell = dict[str, Any]


def run_cell(variant: str, options: str, threads: int, seed: int, steps: int) -> Cell:
    """Make one run, and return what is compared of it."""
    given = [f"run.threads={threads}", f"evaluate.every={steps}", f"evaluate.every_nets={NETS}"]
    given += [f"evaluate.nets={NETS}", "evaluate.controls=false", *options.split()]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = [word for option in given for word in ("-o", option)]
        command = [sys.executable, "-m", "distill_core", *COMMAND, "--steps", str(steps), *words]
        command += ["--seed", str(seed), "--out", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        results = json.loads((out / "manifest.json").read_text())["results"]
    return {
        "variant": variant,
        "options": options,
        "threads": threads,
        "seed": seed,
        **compared(lines),
        "test": statistics.fmean(results["distilled"]["accuracies"]),
    }


def compared(lines: list[Mapping[str, Any]]) -> Cell:
    """Return validation accuracy and the course of the loss from the lines of metrics.jsonl."""
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    labels = [line["label_grad_norm"] for line in lines if "label_grad_norm" in line]
    smooth = [
        statistics.fmean(losses[start : start + SMOOTH])
        for start in range(max(len(losses) - SMOOTH + 1, 1))
    ]
    return {
        "validation": next(
            statistics.fmean(line["accuracies"]) for line in lines if line["kind"] == "validation"
        ),
        "lowest_loss": min(smooth),
        "last_loss": smooth[-1],
        # The spike: the largest gradient of the labels after the first tenth, by the median.
        "label_spike": _spike(labels[len(labels) // 10 :]),
    }


def _spike(norms: list[float]) -> float | None:
    return max(norms) / statistics.median(norms) if norms else None


def table(cells: list[Cell]) -> Iterator[str]:
    """Yield Markdown: a row for each variant and number of threads."""
    yield "| variant | options | threads | seeds | validation: mean, lowest | test: mean, lowest |"
    yield "|---|---|---|---|---|---|"
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell["variant"], cell["threads"]), []).append(cell)
    for (variant, threads), members in groups.items():
        shown = [
            f"{100 * statistics.fmean(values):.1f}, {100 * min(values):.1f}"
            for name in ("validation", "test")
            for values in [[cell[name] for cell in members]]
        ]
        options = members[0]["options"] or "as it stands"
        row = (variant, options, str(threads), str(len(members)), *shown)
        yield f"| {' | '.join(row)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True, help="JSON of the finished cells")
    parser.add_argument("--seeds", type=numbers, default=numbers("0-11"))
    parser.add_argument("--threads", type=numbers, default=[1])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--variant", nargs=2, action="append", metavar=("NAME", "OPTIONS"))
    parser.add_argument("--report", action="store_true", help="print the table, run nothing")
    asked = parser.parse_args()
    cells: list[Cell] = json.loads(asked.out.read_text()) if asked.out.exists() else []
    done = {(cell["variant"], cell["threads"], cell["seed"]) for cell in cells}
    for variant, options in () if asked.report else asked.variant or [("default", "")]:
        for threads in asked.threads:
            for seed in asked.seeds:
                if (variant, threads, seed) not in done:
                    cells.append(run_cell(variant, options, threads, seed, asked.steps))
                    asked.out.write_text(json.dumps(cells, indent=1) + "\n")
    print("\n".join(table(cells)))


if __name__ == "__main__":
    main()
