"""What a decoder costs of an outer step: its images and their adjoint, once per outer step.

    python benchmarks/decoders.py

CPU seconds of one thread, by the clock of the process, so that other programs hardly matter: of all
items of CIFAR-10's size at 1 IPC by the published sizes, decoded and differentiated, and of an
outer step of the presets `cifar10-cpu-hour-NAME` on drawn shapes (width 32, window of 30 in 60,
50 items each, 512 real images).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from distill_core.builtin.presets import HOUR
from distill_core.config.discovery import collect_presets, discover
from distill_core.config.run_config import RunConfig, resolve
from distill_core.config.settings import merge
from distill_core.contracts.components import Representation
from distill_core.contracts.data import DataSpec
from distill_core.run.assemble import assemble
from distill_core.run.loop import OuterLoop
from distill_core.run.plan import Plan

REPEATS, STEPS = 3, 3
SPEC = DataSpec("cifar10", tuple("0123456789"), (3, 32, 32), ("flip",))
PLUGINS = discover()
OTHERS = {
    "images": {"repr": "images"},
    "images, half size": {"repr": "images", "options": {"repr": {"downsample": 2}}},
    "poster": {"repr": "poster"},
    "poster, half size": {"repr": "poster", "options": {"repr": {"downsample": 2}}},
    **{
        f"poster, {canvas}": {"repr": "poster", "options": {"repr": {"canvas": canvas}}}
        for canvas in ("frequencies", "bases", "lowrank", "gaussians")
    },
}


def configured(name: str) -> RunConfig:
    """Return the settings of a row: of a decoder those of its preset."""
    preset = dict(
        collect_presets(PLUGINS)[f"cifar10-cpu-hour-{name if name in HOUR else 'fred'}"].config
    )
    shapes = {"classes": 10, "size": 32, "train_per_class": 60, "test_per_class": 1}
    short = {"dataset": "shapes", "procs": 1, "minutes": None, "steps": 100, "ema": None}
    evaluate = {"every": 0, "select": "last"}
    options = {**preset.pop("options"), "dataset": shapes}
    if name not in HOUR:
        options.pop("repr")
    settings = {**preset, "data": {}, "options": options, **short, "evaluate": evaluate}
    return resolve(merge(settings, OTHERS.get(name, {})), PLUGINS)


def cpu_seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def decoded(made: Representation) -> float:
    """Return the CPU seconds of all items and of their adjoint, the median of a few."""

    def work() -> None:
        images = made.expand(made.layout.items)
        images.backward(torch.ones_like(images))

    work()
    return statistics.median(cpu_seconds(work) for _ in range(REPEATS))


def outer_step(config: RunConfig) -> float:
    """Return the CPU seconds of an outer step, the mean of a few after the first."""
    with tempfile.TemporaryDirectory() as folder:
        loop = OuterLoop(assemble(config, PLUGINS), Path(folder) / "run")
        loop.run(stop=lambda: loop.step >= 1)
        return cpu_seconds(lambda: loop.run(stop=lambda: loop.step >= 1 + STEPS)) / STEPS


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    fred = configured("fred")  # has enough items for an inner batch
    base = outer_step(fred) - decoded(Plan.of(fred, PLUGINS).representation(SPEC, 1.0))
    print(f"an outer step without decoding: {base:.2f} s of CPU", file=sys.stderr)
    print("| representation | images | ms to decode, with adjoint | share of an outer step |")
    print("|---|---|---|---|")
    for name in (*OTHERS, *HOUR):
        made = Plan.of(configured(name), PLUGINS).representation(SPEC, 1.0)
        own = decoded(made)
        share = 100 * own / (own + base)
        print(f"| `{name}` | {len(made.layout.items)} | {1000 * own:.0f} | {share:.1f} % |")


if __name__ == "__main__":
    main()
