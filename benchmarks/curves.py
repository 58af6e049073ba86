"""Draw the learning curves of runs: validation accuracy by outer step and by minute.

python benchmarks/curves.py docs/images/curves.png runs/cifar10/*
"""

from __future__ import annotations

import argparse
import json
from itertools import accumulate
from pathlib import Path


def draw(target: Path, runs: list[Path]) -> None:
    """Draw the validation accuracies of run directories into a file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2))
    by_step, by_minute = figure.subplots(1, 2, sharey=True)
    for run in runs:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
        seconds = [line["seconds"] for line in lines if line["kind"] == "step"]
        minutes = [0.0, *(total / 60 for total in accumulate(seconds))]
        points = [
            (line["step"], line["accuracy"]) for line in lines if line["kind"] == "validation"
        ]
        steps = [step for step, _ in points]
        accuracy = [100 * value for _, value in points]
        by_step.plot(steps, accuracy, marker=".", label=run.name)
        by_minute.plot([minutes[step] for step in steps], accuracy, marker=".")
    by_step.set(xlabel="outer step", ylabel="validation accuracy, %")
    by_minute.set(xlabel="minutes of outer steps")
    by_step.legend()
    figure.tight_layout()
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", type=Path, help="the picture")
    parser.add_argument("runs", type=Path, nargs="+", help="run directories")
    args = parser.parse_args()
    draw(args.target, args.runs)


if __name__ == "__main__":
    main()
