"""Measurements in fresh processes, one after the other or at once, and how they are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

CHILD = Path(__file__).with_name("engine_child.py")
Asked = dict[str, Any]


class Machine:
    """Starts measurements, keeps all that they return.

    Args:
        threads: of each process, unless a measurement says otherwise.
        sizes: of the outer step, in place of what measurements ask for.
    """

    def __init__(self, threads: int, sizes: Mapping[str, int]) -> None:
        self.threads, self.sizes = threads, sizes
        self.record: list[dict[str, Any]] = []

    def start(self, asked: Asked) -> subprocess.Popen[str]:
        threads = asked.get("threads", self.threads)
        sizes = {**asked.get("sizes", {}), **self.sizes}
        # The children's own setting of the allocator must not be overruled.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        root = str(CHILD.parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        return subprocess.Popen(
            [sys.executable, str(CHILD), json.dumps({**asked, "sizes": sizes, "threads": threads})],
            env={**kept, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str], asked: Asked) -> dict[str, Any]:
        out, _ = process.communicate("\n")
        if process.returncode:
            raise SystemExit(f"this measurement failed: {json.dumps(asked)}")
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        self.record.append({"asked": asked, "found": found})
        print(f"  {json.dumps(asked)}\n    {json.dumps(found)}", file=sys.stderr, flush=True)
        return found

    def measure(self, **asked: Any) -> dict[str, Any]:
        return self.end(self.start(asked), asked)

    def take_turns(
        self, variants: Mapping[str, Asked], repeats: int
    ) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
        for _ in range(repeats):
            for name, asked in variants.items():
                found[name].append(self.measure(**asked))
        return found


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return "median (min to max)"."""
    middle = f"{median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"
