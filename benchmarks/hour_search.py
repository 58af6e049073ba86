"""Trial runs for the preset `cifar10-cpu-hour`: one setting changed in each, judged on validation.

    python benchmarks/hour_search.py --minutes 10 --out runs/search --data cifar10.zip \
        --embeddings cifar10.npz

Each trial is one process of one thread, so two of them (`--only NAME ...`) can share two cores.
What is judged is the last state: networks of the published width, on the validation split. The test
split chooses nothing. A trial that is there already is not run again; `--report` only prints the
table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from results import hour, run

from distill_core.commands.evaluate import find_candidate
from distill_core.config.discovery import discover
from distill_core.config.run_config import resolve
from distill_core.config.settings import merge
from distill_core.evaluation.evaluate import Evaluator, Result
from distill_core.run.directory import settings_of
from distill_core.run.plan import Plan
from distill_core.system.files import write_atomically
from distill_core.system.process import prepare

JUDGED = "validation.json"
NETS = 4

TRIALS: dict[str, list[str]] = {
    "preset": [],
    "preset, seed 1": ["--seed", "1"],
    "width 64": ["-o", "backbone.width=64"],
    "20 patches": ["-o", "repr.patches=2x10"],
    "96 patches": ["-o", "repr.patches=6x16"],
    "inner batch of 20": ["-o", "algo.batch=20"],
    "256 real images": ["-o", "algo.real_batch=256"],
    "random windows from the start": ["-o", "algo.curriculum=window"],
    "inner rate 0.002": ["-o", "algo.inner_lr=0.002"],
    "inner rate 0.005": ["-o", "algo.inner_lr=0.005"],
    "no moving average": ["-o", "run.ema=0"],
    "bfloat16": ["-o", "engine.precision=bfloat16"],
}


# One process of one thread, whose last state is judged. All 40 patches are in each inner step, as
# they were in the preset before these trials.
TRIAL = ["--procs", "1", "-o", "run.threads=1", "-o", "algo.batch=40"]
TRIAL += ["-o", "evaluate.every=0", "-o", "evaluate.select=last"]


def folder(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def judge(out: Path) -> None:
    """Write the accuracies of fresh networks of width 128 on the validation split."""
    plugins = discover()
    wide = {"options": {"backbone": {"width": 128}}, "engine": {"precision": "float32"}}
    config = resolve(merge(settings_of(out), wide), plugins)
    prepare(config)
    plan = Plan.of(config, plugins, {"dataset", "backbone"})
    real = plan.real_data()
    candidate, _ = find_candidate(out, config, plugins, real)
    seed_0 = config.model_copy(update={"seed": 0})
    found = Evaluator.of(seed_0, real, plan.networks(real.spec)).evaluate(
        candidate.batch,
        candidate.training_recipe(config.evaluate),
        nets=NETS,
        split=real.validation,
    )
    body = {"result": found.as_dict(), "outer_steps": candidate.step}
    write_atomically(out / JUDGED, json.dumps(body).encode())


def report(out: Path) -> str:
    """Return the table of the trials that are there, the best first."""
    rows = []
    for name in TRIALS:
        path = out / folder(name) / JUDGED
        if path.exists():
            found = json.loads(path.read_text())
            steps, result = found["outer_steps"], Result.from_dict(found["result"])
            each = 60 * settings_of(path.parent)["minutes"] / steps
            rows.append((result.mean, f"{result} | {steps} | {each:.2f}", name))
    lines = ["| changed | validation | outer steps | s/step |", "|---|---|---|---|"]
    lines += [f"| {name} | {rest} |" for _, rest, name in sorted(rows, reverse=True)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder or .zip of images")
    parser.add_argument("--embeddings", type=Path, help=".npz of class embeddings")
    parser.add_argument("--only", nargs="+", choices=[*TRIALS], help="some of the trials")
    parser.add_argument("--report", action="store_true", help="only print the table")
    args = parser.parse_args()
    if not (args.report or (args.data and args.embeddings)):
        parser.error("--data and --embeddings are needed")
    preset = hour(args)["poster-1.0"]
    for name in [] if args.report else args.only or TRIALS:
        out = args.out / folder(name)
        if not (out / JUDGED).exists():
            run(folder(name), [*preset, *TRIAL, *TRIALS[name]], args)
            judge(out)
    print(report(args.out))


if __name__ == "__main__":
    main()
