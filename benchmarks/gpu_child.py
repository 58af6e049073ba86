"""One part of `gpu.py` in a process of its own: a job in, what each cell found out, as JSON lines.

The first line of standard input is the job; when the input ends, the process that waits is gone and
this one ends, too. Told are {"begin": cell}, then {"cell": cell, "found": figures} or {"cell":
cell, "failed": why}, and at last {"end": true}. Everything else that is printed goes to standard
error.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gpu_sizes import Job

Cells = Mapping[str, Callable[[], Mapping[str, Any]]]
LOST = 3  # exit status where the device answers no longer
MODULES = {"deterministic": "gpu_memory"}


def main() -> None:
    """Measure what the first line asks for."""
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print

    for line in answers(asked):
        told.write(json.dumps(line) + "\n")


def answers(asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Measure cell by cell; what is told is measured when it is asked for."""
    if asked.get("about"):
        from gpu_machine import about

        device = asked["device"] or _default_device()
        yield {"device": device, "found": about(device)}
        return
    job = job_of({name: value for name, value in asked.items() if name != "kept"})
    for cell, measure in cells_of(job).items():
        if cell not in asked["kept"]:
            yield {"begin": cell}
            yield {"cell": cell, **outcome(job, measure)}
            _check_device(job)
    yield {"end": True}


def job_of(asked: Mapping[str, Any]) -> Job:
    """Read a job."""
    paths = {name: Path(asked[name]) for name in ("out", "work")}
    lists = {name: tuple(asked[name]) for name in ("options", "chosen")}
    data = tuple(map(Path, asked["data"]))
    return Job(**{**asked, **paths, **lists, "data": data})


def cells_of(job: Job) -> Cells:
    """Return what a part measures, by name."""
    module = importlib.import_module(MODULES.get(job.part, f"gpu_{job.part}"))
    found: Cells = getattr(module, job.part)(job)
    return found


def outcome(job: Job, measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of a cell, or why there are none; a failure ends no other cell."""
    from registry import ExplainedError

    try:
        _plain(job)
        return {"found": dict(measure())}
    except ExplainedError as error:
        return {"failed": f"{type(error).__name__}: {error.what} {error.next}"}
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        return {"failed": f"{type(error).__name__}: {lines[0][:300]}"}


def _plain(job: Job) -> None:
    """Put PyTorch back to its defaults, and forget the memory of other cells."""
    import torch

    from distill_core.system.process import release_memory

    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    release_memory()
    if job.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _check_device(job: Job) -> None:
    """End where an error has taken the device from this process: a new one goes on."""
    if job.cuda:
        import torch

        try:
            torch.cuda.synchronize()
        except RuntimeError:
            sys.exit(LOST)


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _end_with_parent() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)  # with what it started


if __name__ == "__main__":
    main()
