"""Outer steps of methods that unroll nothing, by the kernels and by autograd.

    python benchmarks/methods.py --repeats 3

Noise in the shape of CIFAR-10; nothing is read. Seconds are each algorithm's own estimate, from
parts of an outer step that it runs; the two paths take turns, and ratios are of neighbours in time.
One thread, unless `--threads` says otherwise.
"""

from __future__ import annotations

import argparse
from statistics import median

from machine import spread

from distill_core.commands.bench import assemble_on_noise
from distill_core.config.discovery import discover
from distill_core.config.run_config import RunConfig, resolve
from distill_core.contracts.streams import Streams
from distill_core.system.cores import processor
from distill_core.system.process import prepare
from distill_core.system.units import counted
from registry import Plugins

PATHS = ("kernels", "autograd")
METHODS = {"frepo": 64, "rcig": 32, "dm": 32, "dc": 32}
SETS = {
    "images, 1 IPC": {"repr": "images", "labeler": "soft", "ipc": 1.0},
    "poster, 0.4 IPC, 40 patches": {"repr": "poster", "labeler": "poddl", "ipc": 0.4},
}


def configured(method: str, of: str, path: str, threads: int, plugins: Plugins) -> RunConfig:
    """Return a run of a method on images or a poster of CIFAR-10's shape."""
    poster = SETS[of]["repr"] == "poster"
    labeler = {"mode": "fixed"} if poster and method in ("dm", "dc") else {}
    given = {
        **SETS[of],
        "orderer": "identity",
        "algo": method,
        "dataset": "cifar10",
        "threads": threads,
        "steps": 1,
        "engine": {"path": path},
        "options": {
            "repr": {"patches": "4x10"} if poster else {},
            "labeler": labeler,
            "backbone": {"width": METHODS[method]},
        },
    }
    if not poster and method in ("dm", "dc"):
        given["labeler"] = "onehot"
    return resolve(given, plugins)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    plugins = discover()
    print(f"{processor()}, {counted(args.threads, 'thread')}\n")
    print("| outer step | kernels, s | autograd, s | ratio |\n|---|---|---|---|")
    for of in SETS:
        for method, width in METHODS.items():
            seconds: dict[str, list[float]] = {path: [] for path in PATHS}
            for _ in range(args.repeats):
                for path in PATHS:
                    config = configured(method, of, path, args.threads, plugins)
                    prepare(config)
                    assembly = assemble_on_noise(config, plugins)
                    found = assembly.algorithm.estimate(assembly.synthetic, rng=Streams(0))
                    assert found is not None
                    seconds[path].append(found.seconds)
            ratios = [slow / fast for fast, slow in zip(*seconds.values(), strict=True)]
            times = " | ".join(f"{median(seconds[path]):.2f}" for path in PATHS)
            print(f"| {method}, width {width}, {of} | {times} | {spread(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
