"""Finished cells of benchmarks/bytes_curve.py, in one JSON file, and what papers report.

A record has all seeds of a cell at one setting:

    name, representation, algorithm, dataset, setting
    bytes                   all that is needed to train, as `manifest.json` counts it
    seeds                   one for each run
    accuracies              for each run those of its fresh networks on the test set, percent
    steps, seconds          of each run
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bytes_cells import ByteCell, limit_of
from paper_book import Record, by_name, change, over_seeds

from distill_core.artefact.evaluations import read_evaluations
from distill_core.artefact.manifest import judged_manifest, read_manifest

SAME = ("name", "dataset", "setting")
EACH = ("seeds", "accuracies", "steps", "seconds")  # one for each run, by seed


def setting_of(args: argparse.Namespace, cell: ByteCell) -> str:
    """Name what may differ between records that must not be mixed.

    `evaluate.nets` is of the run's own judging: another number of networks is asked apart.
    """
    length = f"{args.steps} steps" if args.steps else f"{args.minutes:g} minutes"
    length = "nothing learned" if cell.algorithm == "none" else length
    judged = f"{args.nets} networks of width {args.width}"
    told = (option for option in by_name(args.option) if not option.startswith("evaluate.nets="))
    return ", ".join([length, judged, *told])


def recorded(
    cell: ByteCell, seed: int, setting: str, run_dir: Path, *, nets: int, width: int
) -> Record | None:
    """Return the record of one run; None if it is not finished, or not judged by such networks.

    Args:
        cell: what was run.
        seed: its seed.
        setting: what it is kept under.
        run_dir: where it is.
        nets: fresh networks that judge it.
        width: of these.
    """
    results = judged(run_dir, nets, width)
    if results is None:
        return None
    manifest = read_manifest(run_dir)
    return {
        "name": cell.name,
        "representation": cell.representation,
        "algorithm": cell.algorithm,
        "dataset": cell.dataset,
        "setting": setting,
        "bytes": manifest["storage"]["bytes"],
        "seeds": [seed],
        "accuracies": [[round(100 * each, 2) for each in results["distilled"]["accuracies"]]],
        "steps": [manifest["outer_steps"]],
        "seconds": [round(manifest["seconds"])],
    }


def judged(run_dir: Path, nets: int, width: int) -> Mapping[str, Any] | None:
    """Return what so many ConvNets of a width say of the result as it is now; None if not asked.

    They may be the run's own, or those of `distill evaluate`. Others may have judged it too
    (`evaluate.backbones`), or these before it was gone on with.
    """
    if not (manifest := judged_manifest(run_dir)):
        return None
    own = manifest["components"]["backbone"]
    asked = len(manifest["results"]["distilled"]["accuracies"])
    if (own["name"], own["options"].get("width"), asked) == ("convnet", width, nets):
        return dict(manifest["results"])
    for found in read_evaluations(run_dir, manifest["outer_steps"]):
        network = found.settings["backbone"], found.settings["options"].get("width")
        if (*network, found.settings["evaluate"]["nets"]) == ("convnet", width, nets):
            return found.results
    return None


def keep(book: Path, record: Record) -> None:
    """Add the seeds of a record to those that are there; the same seed takes the place of its own.

    Several processes may do so at once.
    """
    change(book, lambda records: merged(records, record))


def merged(records: Sequence[Record], new: Record) -> list[Record]:
    """Return records with the runs of another one, by seed."""
    old = found(records, new)
    runs = {}
    for each in filter(None, (old, new)):
        runs |= dict(zip(each["seeds"], zip(*map(each.get, EACH), strict=True), strict=True))
    columns = zip(*(runs[seed] for seed in sorted(runs)), strict=True)
    whole = {**new, **{name: list(column) for name, column in zip(EACH, columns, strict=True)}}
    return [*(each for each in records if each is not old), whole]


def found(records: Sequence[Record], like: Record) -> Record | None:
    """Return the record of the same cell at the same setting."""
    return next((r for r in records if all(r[name] == like[name] for name in SAME)), None)


def record_of(cell: ByteCell, records: Sequence[Record], setting: str) -> Record | None:
    """Return the record of a cell at a setting."""
    return found(records, {"name": cell.name, "dataset": cell.dataset, "setting": setting})


def longest(cell: ByteCell, records: Sequence[Record]) -> Record | None:
    """Return the record of a cell at the setting whose runs took longest."""
    same = [r for r in records if (r["name"], r["dataset"]) == (cell.name, cell.dataset)]
    return max(same, key=lambda r: statistics.fmean(r["seconds"]), default=None)


def means(record: Record) -> list[float]:
    """Return the mean accuracy of each run, percent."""
    return [statistics.fmean(each) for each in record["accuracies"]]


def spread(record: Record | None) -> str:
    """Return mean and deviation over seeds as text."""
    return "" if record is None else over_seeds(means(record))


@dataclass(frozen=True)
class Published:
    """What a paper reports of networks of width 128, in its own setting.

    Attributes:
        method: the name.
        ipc: bytes that the paper counts, in float32 images per class.
        cifar10: test accuracy, percent; None where there is none.
        cifar100: the same.
        source: the paper.
        counted: what is not counted, or how; empty: all as float32 numbers.
        recalled: not read in the paper again.
    """

    method: str
    ipc: float
    cifar10: float | None
    cifar100: float | None
    source: str
    counted: str = ""
    recalled: bool = False

    def point(self, dataset: str) -> tuple[int, float] | None:
        """Return bytes and accuracy on a dataset."""
        accuracy = {"cifar10": self.cifar10, "cifar100": self.cifar100}.get(dataset)
        return None if accuracy is None else (limit_of(dataset, self.ipc), accuracy)


_LABELS = "learned labels are not counted"
# 30 images a class of 22 Gaussians of 9 numbers in 2 bytes, of 4 x 3,072 bytes.
GSDD = 30 * 22 * 9 * 2 / (4 * 3072)
PUBLISHED = (
    Published("TM-RUO", 1.09, 70.3, None, "ICCV 2025, arXiv:2507.17221", "entropy-coded bits"),
    Published("TM-RUO", 0.70, None, 44.4, "ICCV 2025, arXiv:2507.17221", "entropy-coded bits"),
    Published("NSD", 1, 68.5, 36.5, "ECCV 2024"),
    Published("RaT-BPTT, bases", 1, 68.2, None, "ICLR 2024", recalled=True),
    Published("GSDD", GSDD, 67.6, 43.0, "arXiv:2509.26219", "bfloat16 numbers"),
    Published("DDiF", 1, 66.5, 42.1, "ICLR 2025"),
    Published("RTP", 1, 66.4, 34.0, "arXiv:2206.02916"),
    Published("HMN", 1, 65.7, 36.3, "ECCV 2024"),
    Published("SPEED", 1, 63.2, 40.0, "NeurIPS 2023"),
    Published("FreD", 1, 60.6, 34.6, "NeurIPS 2023"),
    Published("PoDD", 1, 59.1, 38.3, "arXiv:2403.12040", _LABELS),
    Published("AT-BPTT", 1, 54.4, 36.9, "NeurIPS 2025", _LABELS),
    Published("RaT-BPTT", 1, 53.2, 35.3, "ICLR 2024", _LABELS),
    Published("IDC", 1, 50.0, None, "ICML 2022"),
)
