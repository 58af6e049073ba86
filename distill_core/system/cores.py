"""The processor, and how many physical cores of it this process may use, on any system.

Two hardware threads of one core share its arithmetic units, so PyTorch gains nothing from both.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")
PROCESSORS = Path("/proc/cpuinfo")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
# The same list for all hardware threads of a core; older kernels have only the second name.
SIBLINGS = ("core_cpus_list", "thread_siblings_list")


def count_cores() -> int:
    """Return the number of physical cores that this process may use, at least 1.

    The affinity mask (taskset, most batch systems) and a container's CPU quota limit it. If the
    system does not say which hardware threads share a core, every one counts.
    """
    try:
        allowed: Iterable[int] = os.sched_getaffinity(0)
    except AttributeError:  # macOS, Windows
        allowed = range(os.cpu_count() or 1)
    cores = physical_cores(allowed, TOPOLOGY)
    quota = cpu_quota(QUOTA)
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def processor() -> str:
    """Return the name of the processor; on Linux only a file has it."""
    with suppress(OSError):
        for line in PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def physical_cores(allowed: Iterable[int], topology: Path) -> int:
    """Count the cores that the hardware threads `allowed` belong to.

    Args:
        allowed: numbers of hardware threads.
        topology: the kernel's folder with cpu0, cpu1, ...
    """
    return len({_core(topology / f"cpu{number}" / "topology", number) for number in allowed})


def cpu_quota(file: Path) -> float | None:
    """Return the CPU time that a control group (version 2) grants, in CPUs; None: no limit."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max 100000"
        return None


def _core(folder: Path, number: int) -> str:
    for name in SIBLINGS:
        try:
            return (folder / name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
    return f"cpu {number}"
