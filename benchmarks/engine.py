"""The engine against a graph-keeping baseline: speed, memory, exactness, in one table.

    python benchmarks/engine.py                            # everything: about an hour
    python benchmarks/engine.py --only speed --repeats 5   # some of it

Every measurement has a process of its own (`engine_child.py`); variants take turns (A B C A B C),
so that what else the machine does hits all alike. Ratios are of neighbours in time. Written are
engine-DATE.json, with every single number, and engine-DATE.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from machine import Machine, spread

from distill_core.system.cores import processor

# To see that everything works; the figures mean nothing.
SMOKE = {"width": 8, "batch": 8, "warm_up": 1, "real": 40}
PRESET = {"warm_up": 70, "window": 60, "real": 5000}
HOUR = {"width": 32, "patches": "4x10", "batch": 40, "warm_up": 15, "window": 30, "real": 512}
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("width 128, 96 patches, window 4 after 3, 500 real images", {}),
    ("width 32, 40 patches, window 30 after 15, 512 real images", HOUR),
]
MIB = 2**20


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    figure: str
    goal: str
    measured: str
    how: str


def speed(machine: Machine, repeats: int) -> list[Row]:
    """Seconds of an outer step: 3 warm-up steps, window 4, 500 real images."""
    times = {"what": "step", "untimed": 2, "timed": 2}
    variants = {
        "graph": {**times, "path": "graph"},
        "kernels": {**times, "path": "kernels"},
        "bfloat16": {**times, "path": "bfloat16"},
        "stock": {**times, "path": "graph", "allocator": "stock"},
        "autograd": {**times, "path": "autograd"},
        "convolution": {"what": "convolution"},
    }
    found = machine.take_turns(variants, repeats)
    work = {p: machine.measure(what="flop", path=p)["flop"] for p in ("graph", "autograd")}
    rates = {t: max(f[t] for f in found["convolution"]) for t in ("float32", "bfloat16")}
    seconds = {
        name: [median(each["seconds"]) for each in results]
        for name, results in found.items()
        if name != "convolution"
    }

    def rate(name: str) -> str:
        done = work["graph" if name in {"graph", "stock"} else "autograd"]
        return f"{done / 1e12:.2f} TFLOP at {done / median(seconds[name]) / 1e9:.0f} GFLOP/s"

    def row(figure: str, goal: str, slow: str, fast: str) -> Row:
        ratios = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
        return Row(
            figure,
            goal,
            f"{spread(ratios)} times",
            f"{spread(seconds[fast])} s ({rate(fast)}) against {spread(seconds[slow])} s "
            f"({rate(slow)})",
        )

    return [
        row("outer step, fp32, against the baseline, both tuned", "1.8 times", "graph", "kernels"),
        row("the same, bf16", "2.6 times", "graph", "bfloat16"),
        row(
            "outer step, fp32, tuned, against the baseline with the stock allocator",
            "5 times",
            "stock",
            "kernels",
        ),
        row("engine by autograd, fp32, against the baseline", "", "graph", "autograd"),
        Row(
            "this machine's convolution rate",
            "",
            f"fp32 {rates['float32']:.0f}, bf16 {rates['bfloat16']:.0f} GFLOP/s",
            "aten.convolution, (96, 128, 16, 16) channels last with 128 filters, best of 20. "
            "TFLOP above are counted by PyTorch's formulas for direct convolutions over the "
            "baseline's step, and over the engine's by autograd for all of the engine's; its "
            "Winograd convolutions multiply less",
        ),
    ]


def exactness(machine: Machine, repeats: int) -> list[Row]:
    """Cosines of hypergradients of pixels to float64."""
    cosines: dict[str, list[float]] = {"kernels": [], "bfloat16": [], "graph": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, repeats + 1):
            found = {}
            for path in ("autograd64", *cosines):
                file = f"{folder}/{path}.pt"
                machine.measure(what="hypergradient", path=path, seed=seed, file=file)
                found[path] = torch.load(file)["data"]
            for path, values in cosines.items():
                exact = found["autograd64"]
                values.append(float(torch.cosine_similarity(found[path], exact, dim=0)))
    names = {"kernels": "fp32", "bfloat16": "bf16", "graph": "baseline, fp32"}
    return [
        Row(
            f"cosine of the hypergradient of pixels to float64, {names[path]}",
            "",
            spread(values, digits=5),
            f"{repeats} draws; float64 by autograd",
        )
        for path, values in cosines.items()
    ]


def memory(machine: Machine, repeats: int) -> list[Row]:
    """Peaks of whole processes."""
    once = {"what": "step", "untimed": 0}

    def peak(path: str, **sizes: int) -> float:
        return float(machine.measure(**once, path=path, sizes=sizes)["peak"])

    presets = [machine.measure(**once, path="kernels", sizes=PRESET) for _ in range(repeats)]
    windows, reals = [2, 4, 8], [250, 500, 1000]
    by_window = [peak("graph", warm_up=0, window=w, real=500) for w in windows]
    by_real = [peak("graph", warm_up=0, window=2, real=n) for n in reals]
    a, b = (float(np.polyfit(*xy, 1)[0]) for xy in ((windows, by_window), (reals, by_real)))
    whole = by_window[0] + a * (PRESET["window"] - 2) + b * (PRESET["real"] - 500)
    growth = [
        (peak("kernels-none", warm_up=0, window=100, real=250) - short) / 90 / MIB
        for short in [peak("kernels-none", warm_up=0, window=10, real=250) for _ in range(repeats)]
    ]
    return [
        Row(
            "peak memory of the process, fp32: window 60 after 70 steps, 96 patches, width 128, "
            "real batch 5000",
            "under 1.5 GiB",
            f"{spread([p['peak'] / 2**30 for p in presets])} GiB",
            f"{presets[0]['loaded'] / MIB:.0f} MiB of it before the step; one step of "
            f"{spread([p['seconds'][0] for p in presets])} s, the first of its process; the "
            "dataset is the real batch alone",
        ),
        Row(
            "the baseline's",
            "",
            f"{whole / 2**30:.1f} GiB, extrapolated",
            f"{a / MIB:.0f} MiB for each window step (windows {windows}, 500 real images) and "
            f"{b / MIB:.1f} MiB for each real image ({reals}, window 2), both linear",
        ),
        Row(
            "growth of memory from window 10 to window 100",
            "under 6 MiB per step",
            f"{spread(growth)} MiB per step",
            "peaks of processes, 250 real images, no activations retained",
        ),
    ]


def retention(machine: Machine, repeats: int) -> list[Row]:
    """Whole outer steps with and without activations of the window's steps, and peaks."""
    rows = []
    for setting, sizes in SETTINGS:
        times = {"what": "step", "untimed": 1, "timed": 2, "sizes": sizes}
        paths = [f"{path}-{cache}" for path in ("kernels", "autograd") for cache in ("none", "all")]
        found = machine.take_turns({path: {**times, "path": path} for path in paths}, repeats)
        seconds = {path: [median(f["seconds"]) for f in found[path]] for path in paths}
        peaks = {path: [f["peak"] / MIB for f in found[path]] for path in paths}
        for path in ("kernels", "autograd"):
            without, within = f"{path}-none", f"{path}-all"
            ratios = [a / b for a, b in zip(seconds[without], seconds[within], strict=True)]
            rows.append(
                Row(
                    f"outer step by {path} with all activations of the window retained, against "
                    f"none: {setting}",
                    "",
                    f"{spread(ratios)} times",
                    f"{spread(seconds[within])} s against {spread(seconds[without])} s; peaks of "
                    f"processes {spread(peaks[within], 0)} and {spread(peaks[without], 0)} MiB",
                )
            )
    return rows


def patches(machine: Machine, repeats: int) -> list[Row]:
    """Expansion of 1,800 patches and its adjoint."""
    found = machine.take_turns({"expansion": {"what": "expansion"}}, repeats)["expansion"]
    each = {name: [median(f[name]) for f in found] for name in ("both", "expand", "back")}
    best = min(min(f["both"]) for f in found)
    return [
        Row(
            f"expansion of {found[0]['patches']} patches (poster 302x610, 200 classes) and its "
            "adjoint",
            "under 12 ms",
            f"{spread(each['both'])} ms",
            f"there {spread(each['expand'])}, back {spread(each['back'])}, best of all "
            f"{best:.1f} ms; through SyntheticDataset and InnerBatches, learned labels included",
        )
    ]


def processes(machine: Machine, repeats: int) -> list[Row]:
    """Several processes of one thread, against one process with all threads."""
    return [_processes(machine, repeats, setting, sizes) for setting, sizes in SETTINGS]


def _processes(machine: Machine, repeats: int, setting: str, sizes: dict[str, Any]) -> Row:
    count = machine.threads
    seconds = 2 if machine.sizes else 30
    asked = {"what": "rate", "path": "kernels", "seconds": seconds, "sizes": sizes}
    one, several = [], []
    for _ in range(repeats):
        for rates, number, threads in ((one, 1, count), (several, count, 1)):
            started = [machine.start({**asked, "threads": threads}) for _ in range(number)]
            for process in started:
                assert process.stdout is not None
                process.stdout.readline()
            for process in started:  # all are ready
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            ended = [machine.end(p, {**asked, "threads": threads}) for p in started]
            rates.append(sum(each["rate"] for each in ended))
    ratios = [b / a for a, b in zip(one, several, strict=True)]
    return Row(
        f"{count} processes of 1 thread against 1 process of {count}: {setting}",
        "",
        f"{spread(ratios)} times",
        f"{spread(several, 3)} against {spread(one, 3)} outer steps per second, fp32",
    )


SECTIONS: dict[str, Callable[[Machine, int], list[Row]]] = {
    each.__name__: each for each in (speed, exactness, memory, retention, patches, processes)
}


def markdown(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Return the table, with what it was measured on."""
    facts = "; ".join(f"{name} {value}" for name, value in about.items())
    lines = [f"{facts}. Median (min to max).", "", "| figure | goal | measured | how |"]
    lines.append("|---|---|---|---|")
    lines += [f"| {r.figure} | {r.goal} | {r.measured} | {r.how} |" for r in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the two files")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to try the script")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)  # before an hour of work, not after
    machine, rows = Machine(args.threads, sizes=SMOKE if args.smoke else {}), []
    for name in args.only:
        print(name, file=sys.stderr)
        rows += SECTIONS[name](machine, args.repeats)
    about = {
        "processor": processor(),
        "threads": args.threads,
        "torch": torch.__version__,
        "allocator": "tuned glibc unless said otherwise",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "repeats": args.repeats,
    }
    if args.smoke:
        about["sizes"] = "of a smoke test"
    text = markdown(rows, about)
    print(text)
    stem = args.out / f"engine-{datetime.now(UTC):%Y-%m-%d-%H%M}"
    record = {**about, "rows": [asdict(r) for r in rows], "measurements": machine.record}
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    stem.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
