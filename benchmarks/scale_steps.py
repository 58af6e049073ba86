"""Outer steps with real images on the disk against outer steps with them in memory, in turns.

Called by `scale.py --only steps`. Each measurement is a fresh process of one thread; storages take
turns within a round, and a ratio is of two measurements of the same round. On a machine with other
work, ratios of processor time say more than those of the clock.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from scale_child import asked

STORAGES = ("float32", "memmap")
CLOCKS = ("seconds", "processor")
SHAPES = {"classes": 100, "size": 64, "train_per_class": 100, "test_per_class": 2}
ALGORITHMS: dict[str, dict[str, Any]] = {  # few inner steps, so that real images weigh much
    "dm": {"class_batch": 10, "real_batch": 64},
    "ratbptt": {"window": 2, "total": 3, "real_batch": 500},
}


def cells(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what is compared: sizes at which both storages fit."""
    found = [("shapes", SHAPES, "standardise")]
    if given.cifar10:
        cifar = {"path": str(given.cifar10)}
        found += [("imagefolder", cifar, kind) for kind in ("standardise", "zca")]
    for dataset, options, whitening in found:
        for algorithm in given.algorithms:
            yield {
                **{"dataset": dataset, "options": options},
                **{"whitening": whitening, "algorithm": algorithm},
            }


def compare(given: argparse.Namespace) -> None:
    """Print a line for each cell: medians of an outer step, and ratios of disk to memory."""
    for cell in cells(given):
        rounds = [
            {storage: _step(cell | {"storage": storage}, given) for storage in STORAGES}
            for _ in range(given.rounds)
        ]
        print(json.dumps({"part": "steps", **cell, "width": given.width, **summary(rounds)}))
        sys.stdout.flush()


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return medians over rounds, and of the ratios also the least and the greatest."""
    found: dict[str, Any] = {"rounds": len(rounds)}
    memory, disk = STORAGES
    for clock in CLOCKS:
        for storage in STORAGES:
            found[f"{storage}_{clock}"] = round(median(each[storage][clock] for each in rounds), 4)
        ratios = sorted(each[disk][clock] / each[memory][clock] for each in rounds)
        found[f"ratio_{clock}"] = [round(x, 3) for x in (median(ratios), ratios[0], ratios[-1])]
    return found


def _step(run: Mapping[str, Any], given: argparse.Namespace) -> dict[str, float]:
    """The median of an outer step, by each clock, of a run in a process of its own."""
    said = {**run, "width": given.width, "steps": given.steps}
    found: dict[str, float] = asked(__file__, said, Path(given.folder) / "cache")
    return found


def _child(said: dict[str, Any]) -> None:
    """Do some outer steps, and print the medians of all but the first."""
    from distill_core.config.discovery import discover
    from distill_core.config.run_config import resolve
    from distill_core.run.assemble import assemble
    from distill_core.run.loop import OuterLoop
    from distill_core.system.process import prepare, release_memory

    plugins = discover()
    settings: dict[str, Any] = {
        **{"repr": "poster", "labeler": "poddl", "orderer": "identity", "ipc": 0.3},
        **{"algo": said["algorithm"], "dataset": said["dataset"], "steps": said["steps"]},
        "data": {"storage": said["storage"], "whitening": said["whitening"], "validation": 0},
        "options": {
            "dataset": said["options"],
            "algo": ALGORITHMS[said["algorithm"]],
            "backbone": {"width": said["width"]},
            "labeler": {"mode": "fixed"} if said["algorithm"] == "dm" else {},
        },
    }
    config = resolve(settings, plugins)
    prepare(config)
    assembly = assemble(config, plugins)
    release_memory()
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        OuterLoop(assembly, Path(folder), observers=[clock]).run()
    print(json.dumps({name: median(clock.found[name][1:]) for name in CLOCKS}))


class _Clock:
    """An observer of the outer loop that notes how long each step took."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {name: [] for name in CLOCKS}
        self._before = time.process_time()

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        del step
        now = time.process_time()
        self.found["seconds"].append(metrics["seconds"])
        self.found["processor"].append(now - self._before)
        self._before = now


if __name__ == "__main__":
    _child(json.loads(sys.argv[1]))
