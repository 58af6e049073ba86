"""What a large dataset costs: preparing it, starting again, the memory of runs, orders of classes.

    python benchmarks/scale.py --folder /tmp/scale     # 1,000 classes x 300 images of 64 pixels
    python benchmarks/scale.py --folder /tmp/scale --classes 20 --per-class 20 --only prepare again

`shapes` on the disk, in a cache of its own in the folder, which is left there. Every part is a
process of one thread, and prints a line of JSON: seconds by the clock, seconds of the processor
(of the process and its children), and the most resident memory, mapped files included. On a machine
with other work only the last two say much. A run that had `prepare` before it prepares nothing.
`--only read` compares reading from the disk with reading from memory, at a size where both fit, and
`--only steps` whole outer steps (`scale_steps.py`). `--only sources` prepares pictures from a
folder, a zip, arrow tables and tars (`scale_sources.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import scale_sources
import scale_steps

PARTS = ("prepare", "again", "dm", "ratbptt", "poco", "qap", "labels")
IN_MEMORY = "read"  # needs four times the bytes on the disk, so that it has to be asked for
ASKED = {"steps": scale_steps.compare, "sources": scale_sources.compare}  # likewise
STEPS = {
    "dm": ("algo.class_batch=10", "algo.real_batch=64"),
    "ratbptt": ("algo.window=4", "algo.total=6", "algo.real_batch=500"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--per-class", type=int, default=300)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=128, help="of the networks of a run")
    parser.add_argument("--cifar10", type=Path, help="its pictures, for --only steps")
    parser.add_argument("--algorithms", nargs="*", choices=[*STEPS], default=[*STEPS])
    parser.add_argument("--rounds", type=int, default=5, help="of --only steps")
    parser.add_argument("--steps", type=int, default=6, help="outer steps, of --only steps")
    parser.add_argument("--pictures", type=int, default=5000, help="of --only sources")
    parser.add_argument("--only", nargs="*", choices=(*PARTS, IN_MEMORY, *ASKED), default=PARTS)
    parser.add_argument("--child", choices=(*PARTS, IN_MEMORY), help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.child:
        CHILDREN[given.child](given)
        return
    for part in given.only:
        if part in ASKED:
            ASKED[part](given)
            continue
        print(json.dumps({"part": part, **measured(part, given)}), flush=True)


def measured(part: str, given: argparse.Namespace) -> dict[str, Any]:
    """Run a part in a process of its own."""
    words = run_words(part, given) if part in STEPS else [*sys.argv, "--child", part]
    cache = given.folder / "cache"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DISTILL_CACHE": str(cache)}
    begin = time.perf_counter()
    with open(given.folder / f"{part}.log", "wb") as log:
        child = subprocess.Popen(
            [sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=log
        )
        assert child.stdout is not None
        said = child.stdout.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
    found = {} if part in STEPS else json.loads(said or "{}")
    return {
        **found,
        "exit": os.waitstatus_to_exitcode(status),
        "seconds": round(time.perf_counter() - begin, 2),
        "processor": round(usage.ru_utime + usage.ru_stime, 2),
        "resident_mib": round(usage.ru_maxrss / 1024),
    }


def run_words(part: str, given: argparse.Namespace) -> list[str]:
    """A poster of 0.3 IPC, two outer steps, judged by one network that hardly trains."""
    options = [
        *(f"dataset.{name}={value}" for name, value in dataset(given).items()),
        *("data.storage=memmap", "data.whitening=standardise", "data.validation=0"),
        *("evaluate.nets=1", "evaluate.steps=1", "evaluate.controls=false"),
        *(f"backbone.width={given.width}", *STEPS[part]),
        *(["labeler.mode=fixed"] if part == "dm" else []),
    ]
    return [
        *("-m", "distill_core", "run", "--repr", "poster", "--labeler", "poddl"),
        *("--orderer", "identity", "--algo", part, "--dataset", "shapes", "--ipc", "0.3"),
        *("--steps", "2", "--yes", "--overwrite"),
        *("--out", str(given.folder / part), *(w for each in options for w in ("-o", each))),
    ]


def dataset(given: argparse.Namespace) -> dict[str, int]:
    return {
        "classes": given.classes,
        "size": given.size,
        "train_per_class": given.per_class,
        "test_per_class": 2,
    }


def read(given: argparse.Namespace, storage: str = "memmap") -> Any:
    """Return the real data as a run has them."""
    import torch

    from distill_core.config.discovery import discover
    from distill_core.config.sections import DataOptions
    from distill_core.data.kept_pictures import Reader
    from distill_core.data.prepare import prepare

    torch.set_num_threads(1)
    builder = discover()["dataset"].builder("shapes", dataset(given))
    raw = Reader(
        builder(),
        builder.call,
        str(builder),  # as a run names it, which finds the same pictures
        most=0,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    ).read()
    options = DataOptions(storage=storage, whitening="standardise", validation=0)
    on_disk = "" if storage == "memmap" else None
    return prepare(raw, options, seed=0, device=torch.device("cpu"), on_disk=on_disk)


def start(given: argparse.Namespace) -> None:
    """The real data: prepared, or found; seconds without the imports."""
    import torch  # noqa: F401

    import distill_core.data.prepare  # noqa: F401

    begin, used = time.perf_counter(), time.process_time()
    real = read(given)
    size = 3 * given.size**2 * (len(real.train) + len(real.test))
    spent = time.process_time() - used
    report(
        megabytes=round(size / 1e6),
        data_seconds=round(time.perf_counter() - begin, 2),
        data_processor=round(spent, 2),
        megabytes_in_a_processor_second=round(size / 1e6 / spent, 1),
    )


def batches(given: argparse.Namespace) -> None:
    """Reading and whitening 250 drawn images, on the disk and in memory, in turns."""
    import torch

    kept = {storage: read(given, storage).train for storage in ("memmap", "float32")}
    found: dict[str, list[float]] = {storage: [] for storage in kept}
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        index = kept["memmap"].draw(250, generator=generator)
        for storage, split in kept.items():
            begin = time.process_time()
            split.take(index)
            found[storage].append(time.process_time() - begin)
    report(**{f"{name}_ms": round(1000 * sorted(all)[10], 2) for name, all in found.items()})


def order(given: argparse.Namespace) -> None:
    """An order of the classes by their mean images."""
    import torch

    from distill_core.config.discovery import discover
    from distill_core.plugin import class_grid_shape

    real = read(given)
    begin = time.process_time()
    orderer = discover()["orderer"].create(given.child, {"similarity": "image"})
    classes = real.spec.num_classes
    shape = class_grid_shape(classes)
    grid = orderer.order(real, shape, generator=torch.Generator().manual_seed(0))
    assert sorted(grid.flatten().tolist()) == list(range(classes))
    report(order_processor=round(time.process_time() - begin, 2))


def labels(given: argparse.Namespace) -> None:
    """How many pixels of every class each patch of a poster covers, for 40,000 patches."""
    import torch

    from distill_core.plugin import (
        Boxes,
        Layout,
        Placement,
        class_coverage,
        class_grid_shape,
        grid_cells,
    )

    side = 640
    shape = class_grid_shape(given.classes)
    cells = grid_cells((side, side), shape)
    boxes = torch.randint(0, side - given.size, (40_000, 2)).repeat(1, 2)
    boxes[:, 2:] += given.size
    found, cell = (Boxes.of(torch.zeros(len(each)).long(), each) for each in (boxes, cells))
    grid = torch.arange(given.classes).view(shape)
    layout = Layout((side, side), 1, found, cell, grid.flatten(), shape)
    coverage = class_coverage(found, Placement(layout, grid))
    report(table_mib=round(coverage.nbytes / 2**20), dtype=str(coverage.dtype))


def report(**found: Any) -> None:
    print(json.dumps(found))


CHILDREN = {
    "prepare": start,
    "again": start,
    "read": batches,
    "poco": order,
    "qap": order,
    "labels": labels,
}

if __name__ == "__main__":
    main()
