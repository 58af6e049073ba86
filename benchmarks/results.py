"""The accuracy tables of docs/results-details.md: equal wall-clock budget, one run after the other.

    python benchmarks/results.py digits --minutes 2.5 --out runs/digits
    python benchmarks/results.py cifar10 --minutes 40 --out runs/cifar10 --data cifar10.zip \
        --embeddings cifar10.npz
    python benchmarks/results.py hour --minutes 60 --out runs/hour --data cifar10.zip \
        --embeddings cifar10.npz
    python benchmarks/results.py methods --minutes 10 --out runs/methods --data cifar10.zip \
        --embeddings cifar10.npz --threads 2
    python benchmarks/results.py digits --out runs/digits --report

A run that is there already is not done again, so an interrupted table is finished by calling the
same command. `--report` only prints the table of the runs that are there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from distill_core.artefact.manifest import judged_manifest
from distill_core.config.discovery import collect_presets, discover
from distill_core.report.compare import compare, markdown, read_runs

POSTER = ["--repr", "poster", "--labeler", "poddl", "--orderer", "poco"]
IMAGES = ["--repr", "images", "--orderer", "identity", "--ipc", "1"]
# As the tables of CIFAR-10 were measured, before labels came from the nearest cells by default.
LEARNED = ["-o", "labeler.mode=learned", "-o", "labeler.pooling=area"]


def digits(_: argparse.Namespace) -> dict[str, list[str]]:
    runs = {
        "images-1.0-soft": [*IMAGES, "--labeler", "soft"],
        "images-1.0-onehot": [*IMAGES, "--labeler", "onehot"],
    }
    for ipc in ("1.0", "0.7", "0.5", "0.3"):
        for mode in ("learned", "fixed"):
            runs[f"poster-{ipc}-{mode}"] = [*POSTER, "--ipc", ipc, "-o", f"labeler.mode={mode}"]
    wide = ["-o", "repr.size=12x16", "-o", "repr.patches=2x6"]
    for mode in ("learned", "fixed"):
        runs[f"poster-0.3-{mode}-12x16"] = [*runs[f"poster-0.3-{mode}"], *wide]
    return runs


def cifar10(args: argparse.Namespace) -> dict[str, list[str]]:
    common = ["--dataset", "imagefolder", "-o", f"dataset.path={args.data}"]
    common += ["-o", "data.whitening=zca", "-o", "backbone.width=32"]
    for option in ("window=15", "total=50", "pixel_lr=0.01", "inner_lr=0.003", "real_batch=512"):
        common += ["-o", f"algo.{option}"]
    common += ["-o", "evaluate.every=100", "-o", "evaluate.steps=300"]
    order = ["-o", "orderer.similarity=file", "-o", f"orderer.file={args.embeddings}"]
    poster = [*POSTER, *order, "-o", "repr.patches=4x10", *common]
    return {
        "poster-1.0-fixed": [*poster, "--ipc", "1", "-o", "labeler.mode=fixed"],
        "poster-0.4-learned": [*poster, "--ipc", "0.4", *LEARNED],
        "images-1.0-soft": [*IMAGES, "--labeler", "soft", *common],
    }


def hour(args: argparse.Namespace) -> dict[str, list[str]]:
    """The preset `cifar10-cpu-hour` on other budgets, and on images, judged at width 128; also with
    all patches in each inner step, as the preset had it first."""
    common = ["--preset", "cifar10-cpu-hour", "--dataset", "imagefolder"]
    common += ["-o", f"dataset.path={args.data}"]
    common += ["-o", "evaluate.nets=1", "-o", "evaluate.controls=false"]
    order = ["-o", "orderer.similarity=file", "-o", f"orderer.file={args.embeddings}"]
    runs = {
        f"poster-{ipc}": [*common, *order, "--ipc", ipc] for ipc in ("1.0", "0.7", "0.4", "0.3")
    }
    runs |= {f"{name}-all-patches": [*run, "-o", "algo.batch=40"] for name, run in runs.items()}
    runs["images-1.0"] = [*common, *IMAGES, "--labeler", "soft"]
    return runs


# Settings of each method: its defaults are the published ones; here is what does not scale down,
# found in short runs on the validation split. A width of 32 is for methods that unroll.
UNROLLED = ["-o", "run.ema=0.99", "-o", "run.lr_decay=linear", "-o", "backbone.width=32"]
ONE_STEP = ["-o", "data.whitening=standardise", "-o", "repr.init=real"]
EXPERTS = ["-o", "backbone.width=32", "-o", "data.whitening=zca_kornia", "-o", "repr.init=real"]
METHODS: dict[str, list[str]] = {
    "ratbptt": [*UNROLLED, "-o", "algo.window=30", "-o", "algo.total=60", "-o", "algo.batch=96",
                "-o", "algo.inner_lr=0.003", "-o", "algo.real_batch=512",
                "-o", "algo.pixel_lr=0.01", "-o", "algo.label_clip=true"],
    "bptt": [*UNROLLED, "-o", "algo.steps=50", "-o", "algo.augment=flip_rotate"],
    "dd": [*UNROLLED, "-o", "algo.real_batch=512"],
    "frepo": ["-o", "run.ema=0.99", "-o", "backbone.width=64"],
    "rcig": ["-o", "run.ema=0.99", "-o", "backbone.width=32", "-o", "algo.real_batch=256"],
    "dm": [*ONE_STEP, "-o", "backbone.width=32"],
    "dc": [*ONE_STEP, "-o", "backbone.width=32"],
    "dsa": [*ONE_STEP, "-o", "backbone.width=32"],
    "mtt": [*EXPERTS, "-o", "algo.experts=4"],
    "ftd": [*EXPERTS, "-o", "algo.experts=4", "-o", "run.ema=0.99"],
    "tesla": [*EXPERTS, "-o", "algo.experts=4", "-o", "algo.pixel_lr=100", "-o", "algo.label_lr=1"],
}  # fmt: skip
FIXED_LABELS = ("dm", "dc", "dsa")
# Of one image per class kcenter keeps the same as herding, the one nearest the mean.
CORESETS = ("random", "herding", "forgetting")


def methods(args: argparse.Namespace) -> dict[str, list[str]]:
    """Every method on images and on posters, with an equal time for each."""
    data = ["--dataset", "imagefolder", "-o", f"dataset.path={args.data}"]
    judged = ["-o", "evaluate.nets=1", "-o", "evaluate.controls=false", "-o", "evaluate.every=0"]
    common = [*data, *judged, "-o", f"run.threads={args.threads}", "-o", "data.whitening=zca"]
    order = ["-o", "orderer.similarity=file", "-o", f"orderer.file={args.embeddings}"]
    poster = [*POSTER, *order, "-o", "repr.patches=4x10", "-o", "evaluate.steps=500"]
    runs = {}
    for name, settings in METHODS.items():
        fixed = name in FIXED_LABELS
        algorithm = ["--algo", name]
        labeler = "onehot" if fixed else "soft"
        runs[f"images-1.0-{name}"] = [*algorithm, *IMAGES, "--labeler", labeler, *common, *settings]
        mode = ["-o", "labeler.mode=fixed"] if fixed else LEARNED
        for ipc in ("1.0", "0.4"):
            runs[f"poster-{ipc}-{name}"] = [
                *algorithm, *poster, "--ipc", ipc, *mode, *common, *settings,
            ]  # fmt: skip
    for method in CORESETS:
        compared = ["-o", "repr.features=network"] if method == "herding" else []
        for ipc in ("1.0", "0.4"):
            runs[f"coreset-{ipc}-{method}"] = [
                "--algo", "none", "--repr", "coreset", "--labeler", "onehot",
                "--orderer", "identity", "--ipc", ipc, "-o", f"repr.method={method}",
                *compared, *common, "-o", "backbone.width=32",
            ]  # fmt: skip
    return runs


SUITES = {"digits": digits, "cifar10": cifar10, "hour": hour, "methods": methods}


def judge_wide(out: Path, *, nets: int, controls: bool) -> None:
    """Networks of the published width on a result, and on its controls."""
    if not list(out.glob("evaluation/*.json")):
        command = [sys.executable, "-m", "distill_core", "evaluate", str(out), "--nets", str(nets)]
        command += ["-o", "backbone.width=128", "-o", f"evaluate.controls={str(controls).lower()}"]
        subprocess.run(command, check=True)


def run(name: str, arguments: list[str], args: argparse.Namespace) -> None:
    out = args.out / name
    if judged_manifest(out):
        return
    command = [sys.executable, "-m", "distill_core", "run"]
    if (out / "run.toml").exists():
        command += ["--resume", "--out", str(out)]
    else:
        named = {"--preset", "--algo"} & set(arguments)
        algorithm = [] if named else ["--algo", "ratbptt"]
        command += ["--seed", str(args.seed), *algorithm, *arguments]
        command += ["--steps", "1000000", "--minutes", str(args.minutes), "--out", str(out)]
    subprocess.run(command, check=True)


def report(names: list[str], out: Path) -> str:
    records, failures = read_runs(out / name for name in names if (out / name).exists())
    table = markdown(compare(records, collect_presets(discover())))
    return "\n".join([table, *failures])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="cifar10: folder or .zip of images")
    parser.add_argument("--embeddings", type=Path, help="cifar10: .npz of class embeddings")
    parser.add_argument("--threads", type=int, default=2, help="methods: threads of a run")
    parser.add_argument("--only", nargs="+", help="names of some of the runs")
    parser.add_argument("--report", action="store_true", help="only print the table")
    args = parser.parse_args()
    if args.suite != "digits" and not (args.report or (args.data and args.embeddings)):
        parser.error(f"{args.suite} needs --data and --embeddings")
    runs = SUITES[args.suite](args)
    if not args.report:
        for name, arguments in runs.items():
            if args.only and name not in args.only:
                continue
            run(name, arguments, args)
            if args.suite == "hour":
                judge_wide(args.out / name, nets=8, controls=True)
            if args.suite == "methods":
                judge_wide(args.out / name, nets=5, controls=False)
    print(report(list(runs), args.out))


if __name__ == "__main__":
    main()
