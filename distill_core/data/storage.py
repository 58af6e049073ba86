"""Where the real images of a run are kept: in memory, or on the disk, read batch by batch."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from distill_core.config.sections import DataOptions
from distill_core.contracts.data import RawData
from distill_core.system.cards import room
from distill_core.system.units import size_text

SHARE = 0.6  # of free memory; the rest is for networks and activations
FLOAT = 4  # bytes of a number, as images are kept in memory
MEMINFO = Path("/proc/meminfo")
LIMITS = (  # of the group that a container or a job runs in: its limit, and what it uses
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def most_in_memory(options: DataOptions, device: torch.device) -> float:
    """Return how many bytes of images (one for a number) may be kept in memory.

    Args:
        options: `storage` is read.
        device: where images would be.
    """
    if options.storage == "memmap":
        return 0
    return SHARE * free_memory(device) / FLOAT if options.storage == "auto" else math.inf


def free_memory(device: torch.device) -> float:
    """Return the bytes that are free on a device; infinite if the system does not say."""
    if device.type == "cuda":
        return room(device)[0]
    found = [math.inf]
    try:
        lines = MEMINFO.read_text("ascii").splitlines()
        found += [1024 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable:")]
    except (OSError, ValueError):  # not Linux
        pass
    for most, used in LIMITS:
        try:
            found.append(int(most.read_text("ascii")) - int(used.read_text("ascii")))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return max(min(found), 0)


def why_on_disk(raw: RawData, options: DataOptions, device: torch.device) -> str | None:
    """Return the line that says that images stay on the disk; empty if that was asked for.

    None where they go into memory.
    """
    size = raw.train_images.nbytes + raw.test_images.nbytes
    if size <= most_in_memory(options, device):
        return None
    if options.storage == "memmap":
        return ""
    needed, free = size_text(FLOAT * size), size_text(free_memory(device))
    return (
        f"real images stay on the disk and are read batch by batch, since they would take {needed} "
        f"of memory, and {free} are free; "
        "-o data.storage=float32 or float16 keeps them in memory all the same."
    )
