"""Part `runs` of `gpu.py`: distill for the time that is left, and go on in the next call.

A run is `distill run` in a process of its own, with a checkpoint every minute. What it needs to go
on, and what it found, is packed into one file of the results' folder: never the whitening, which
is large and made again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from gpu_sizes import Job

from distill_core.run.checkpoint import has_checkpoint
from distill_core.system.files import write_atomically
from registry import InputError

PACK = "runs.tar.gz"
PACKED = ("run.toml", "manifest.json", "metrics.jsonl", "distilled.safetensors", "poster.png")
PACKED += ("stored.safetensors", "checkpoint/state.safetensors")
# Seconds: least of a run; to read and whiten the data; to judge; to save and stop; between looks.
LEAST, SET_UP, JUDGE, STOP, LOOK = 120.0, 60.0, 45.0, 15.0, 0.2
TINY_LEAST, TINY_STEPS, TINY_STOP = 1.0, 1.0, 2.0
EVERY = 30.0  # seconds between two packs

POSTERS = {name: ("--preset", name, "--orderer", "published") for name in
           ("podd-cifar10-1.0", "podd-cifar10-0.4", "podd-cifar100-0.4")}  # fmt: skip
IMAGES = ("--preset", "podd-cifar10-1.0", "--repr", "images", "--labeler", "soft")
RUNS: dict[str, tuple[str, ...]] = {
    **POSTERS,
    "images-cifar10-1.0": (*IMAGES, "--orderer", "identity"),
}
TINY: dict[str, tuple[str, ...]] = {
    "shapes": (
        "--dataset", "shapes", "--repr", "poster", "--labeler", "poddl", "--orderer", "identity",
        "--algo", "ratbptt", "--ipc", "1", "-o", "dataset.size=8", "-o", "dataset.classes=10",
        "-o", "dataset.train_per_class=6", "-o", "dataset.test_per_class=3",
        "-o", "backbone.width=4", "-o", "backbone.depth=1", "-o", "repr.patches=2x5",
        "-o", "algo.window=2", "-o", "algo.total=3", "-o", "algo.batch=8",
        "-o", "algo.real_batch=16", "-o", "evaluate.nets=2", "-o", "evaluate.steps=3",
    )
}  # fmt: skip


def runs(job: Job) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return a cell for every run; what is left of the time is shared equally."""
    known = RUNS if job.form == "published" else TINY
    chosen = [name for name in known if not job.chosen or name in job.chosen]
    if unknown := set(job.chosen) - set(known):
        raise InputError(
            f"there is no run {', '.join(sorted(unknown))}.",
            expected=", ".join(known),
            next="correct --run.",
        )
    unpack(job.out / PACK, job.work / "runs")
    end = job.end - (TINY_STOP if job.form == "tiny" else STOP)
    return {
        name: partial(go_on, job, name, known[name], end, len(chosen) - place)
        for place, name in enumerate(chosen)
    }


def go_on(
    job: Job, name: str, arguments: Sequence[str], end: float, remaining: int
) -> dict[str, Any]:
    """Begin a run or go on with it, for its share of the time until `end`.

    Raises:
        InputError: its data are not here, or its share is too short.
    """
    share = (end - time.time()) / remaining
    tiny = job.form == "tiny"
    if share < (TINY_LEAST if tiny else LEAST):
        raise InputError(
            f"{share:.0f} s are left for this run.",
            expected=f"at least {LEAST:.0f} s.",
            next="give more --budget, or choose fewer with --run.",
        )
    data = [] if tiny else ["--dataset", "imagefolder", "-o", f"dataset.path={data_of(job, name)}"]
    folder = job.work / "runs" / name
    spent = float(_record(folder).get("seconds", 0.0))
    outer = TINY_STEPS if tiny else max(share - SET_UP - JUDGE, 1.0)
    common = ["--minutes", f"{(spent + outer) / 60:.4f}", "--out", str(folder)]
    common += ["--device", job.device]
    for option in job.options:
        common += ["-o", option]
    if has_checkpoint(folder):
        words = ["--resume", *common]
    else:
        words = [*arguments, *data, *common, "-o", "run.checkpoint_minutes=1", "--overwrite"]
        words += ["-o", "evaluate.controls=false", "--steps", "1000000" if tiny else "40000"]
    began = time.monotonic()
    status = follow([sys.executable, "-m", "distill_core", "run", *words], job, began + share)
    pack(job.work / "runs", job.out / PACK)
    if not _record(folder):
        raise InputError(
            f"the run ended with status {status} before its first checkpoint.",
            expected="an outer step in the time that there was.",
            next="see gpu.log.",
        )
    return {**told(folder), "status": status, "seconds of this call": time.monotonic() - began}


def follow(command: Sequence[str], job: Job, until: float) -> int:
    """Wait for a run; what it has reached is packed now and then, and it is stopped in time."""
    process = subprocess.Popen(command, stdout=sys.stderr)
    packed = time.monotonic()
    while process.poll() is None:
        time.sleep(LOOK)
        if time.monotonic() > until:
            process.terminate()  # it saves its state, and ends
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
        if time.monotonic() - packed > EVERY:
            pack(job.work / "runs", job.out / PACK)
            packed = time.monotonic()
    return process.wait()


def told(folder: Path) -> dict[str, Any]:
    """Return what a run has reached, from its own records."""
    record = _record(folder)
    results = record.get("results", {}).get("distilled", {})
    steps, seconds = record["outer_steps"], record["seconds"]
    accuracy, deviation = results.get("mean"), results.get("std")
    return {
        "outer steps": steps,
        "seconds a step": seconds / max(steps, 1),
        "minutes in all": seconds / 60,
        "accuracy %": None if accuracy is None else 100 * accuracy,
        "deviation %": None if deviation is None else 100 * deviation,
        "networks": len(results.get("accuracies", [])) or "not judged yet",
        "engine": record["engine"],
    }


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.exists() or not has_checkpoint(folder):
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def data_of(job: Job, name: str) -> Path:
    """Return the folder or .zip of a run's images; a .tar archive is unpacked, once.

    Raises:
        InputError: no such data were given.
    """
    dataset = "cifar100" if "cifar100" in name else "cifar10"
    for path in job.data:
        if path.name.partition(".")[0] == dataset and path.exists():
            return path if path.is_dir() or path.suffix == ".zip" else _unpacked(path, job.work)
    raise InputError(
        f"the images of {dataset} are not here.",
        expected=f"--data {dataset}.tar.xz, {dataset}.zip or a folder {dataset} with "
        "train/CLASS/* and test/CLASS/*.",
        next="pass it, or leave this run out.",
    )


def _unpacked(archive: Path, work: Path) -> Path:
    folder = work / "data" / archive.name.partition(".")[0]
    complete = folder / ".complete"
    if not complete.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        complete.touch()
    return folder


def pack(folder: Path, file: Path) -> None:
    """Put what is small of all runs into one file, whole or not at all."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in _small(folder):
            tar.add(path, path.relative_to(folder).as_posix())
    write_atomically(file, buffer.getvalue())


def _small(folder: Path) -> Iterable[Path]:
    for run in sorted(folder.iterdir()) if folder.is_dir() else []:
        yield from (path for name in PACKED if (path := run / name).exists())


def unpack(file: Path, folder: Path) -> None:
    """Put runs of an earlier call back where they are not, or where they had gone less far."""
    if not file.exists():
        return
    packed = folder.with_name("packed")
    shutil.rmtree(packed, ignore_errors=True)
    with tarfile.open(file) as tar:
        tar.extractall(packed, filter="data")
    for run in sorted(packed.iterdir()):
        here, there = (
            _record(place / run.name).get("outer_steps", -1) for place in (folder, packed)
        )
        if here < there:
            for name in PACKED:
                if (path := run / name).exists():
                    write_atomically(folder / run.name / name, path.read_bytes())
