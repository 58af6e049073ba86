"""Set up the process for the machine: threads, arithmetic, and the memory allocator.

Every command that computes calls `prepare` once. Pure functions decide what to do, from the
settings and the environment; only `prepare` changes the process. `cores.py` counts cores, and
`arithmetic.py` sets how a CUDA device computes.

Why the allocator: stock glibc returns every large tensor to the system, and the system zeroes each
page again for the next one. Keeping that memory doubled the speed of distillation on CPUs
(docs/guide/machine.md).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from distill_core.system.arithmetic import ArithmeticSettings, set_arithmetic
from distill_core.system.cores import count_cores
from distill_core.system.units import counted
from registry import InputError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
LARGEST = 2**31 - 1
OTHER_MALLOCS = ("jemalloc", "tcmalloc", "mimalloc", "snmalloc", "rpmalloc", "hoard", "tbbmalloc")
OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")

# A fact about the process, not a setting: glibc can neither report nor undo it.
_tuned = False


class ProcessSettings(ArithmeticSettings, Protocol):
    """The settings of a run that are read here; `RunConfig` has them."""

    @property
    def threads(self) -> int | None:
        """Threads asked for; None: one per core."""
        ...

    @property
    def allocator(self) -> str:
        """Return "auto", "tuned" or "stock"."""
        ...


@dataclass(frozen=True)
class Runtime:
    """How the process computes, and why.

    Attributes:
        threads: threads of PyTorch in this process.
        cores: physical cores that the process may use.
        threads_reason: why this number of threads.
        allocator: "tuned": glibc keeps freed memory; "stock": glibc is unchanged.
        allocator_reason: why this allocator.
    """

    threads: int
    cores: int
    threads_reason: str
    allocator: str
    allocator_reason: str

    def __str__(self) -> str:
        threads, cores = counted(self.threads, "thread"), counted(self.cores, "core")
        why = f" ({self.allocator_reason})" if self.allocator == "stock" else ""
        return f"{threads} (of {cores}), allocator {self.allocator}{why}"


def prepare(settings: ProcessSettings, processes: int = 1) -> Runtime:
    """Set threads, allocator and arithmetic of this process for a run.

    Args:
        settings: `threads`, `allocator` and `deterministic` are read.
        processes: how many share this machine, if no launcher has set LOCAL_WORLD_SIZE.

    Returns:
        What was done; the allocator is "stock" if glibc refused.

    Raises:
        InputError: `run.allocator=tuned` needs glibc, which this system does not have.
    """
    environment = {"LOCAL_WORLD_SIZE": str(processes), **os.environ}
    runtime = decide(settings, environment, cores=count_cores(), glibc=has_glibc())
    torch.set_num_threads(runtime.threads)
    set_arithmetic(settings)
    if runtime.allocator == "tuned" and not tune_allocator():
        return replace(runtime, allocator="stock", allocator_reason="glibc refused")
    if runtime.allocator != allocator():
        return replace(runtime, allocator=allocator(), allocator_reason="since an earlier run")
    return runtime


def allocator() -> str:
    """Return how memory is allocated in this process now: "tuned" or "stock"."""
    return "tuned" if _tuned else "stock"


def decide(
    settings: ProcessSettings, environment: Mapping[str, str], *, cores: int, glibc: bool
) -> Runtime:
    """Decide how a process with these settings and this environment computes.

    Args:
        settings: `threads` and `allocator` are read.
        environment: environment variables.
        cores: physical cores that the process may use.
        glibc: whether memory comes from glibc's malloc, unless another one is preloaded.

    Raises:
        InputError: `run.allocator=tuned` needs glibc, which this system does not have.
    """
    threads, threads_reason = decide_threads(settings.threads, environment, cores=cores)
    allocator, allocator_reason = decide_allocator(settings.allocator, environment, glibc=glibc)
    return Runtime(threads, cores, threads_reason, allocator, allocator_reason)


def decide_threads(
    asked: int | None, environment: Mapping[str, str], *, cores: int
) -> tuple[int, str]:
    """Return a number of threads, at least 1, and why.

    OMP_NUM_THREADS counts the threads of one process, so it is not divided among the processes of a
    distributed run. torchrun sets it to 1 if the user did not set it; that value is ignored.

    >>> decide_threads(None, {"LOCAL_WORLD_SIZE": "2"}, cores=8)
    (4, '8 cores for 2 processes')
    """
    if asked is not None:
        return asked, "run.threads"
    processes = _positive(environment.get("LOCAL_WORLD_SIZE")) or 1
    wanted = environment.get("OMP_NUM_THREADS", "").partition(",")[0]  # a list is by nesting level
    by_torchrun = processes > 1 and wanted == "1" and "TORCHELASTIC_RUN_ID" in environment
    if (number := _positive(wanted)) and not by_torchrun:
        return number, "OMP_NUM_THREADS"
    if processes > 1:
        return max(cores // processes, 1), f"{cores} cores for {processes} processes"
    return cores, "one for each core"


def decide_allocator(asked: str, environment: Mapping[str, str], *, glibc: bool) -> tuple[str, str]:
    """Return "tuned" or "stock", and why.

    Raises:
        InputError: `asked` is "tuned", but there is no glibc to tune.
    """
    if asked == "stock":
        return "stock", "run.allocator"
    if not glibc:
        if asked == "tuned":
            raise InputError(
                "option run.allocator = tuned needs glibc's allocator, which is not used here.",
                expected="Linux with glibc, as most distributions have it.",
                next="leave it out, or pass -o run.allocator=auto.",
            )
        return "stock", "no glibc"
    if asked == "tuned":
        return "tuned", "run.allocator"
    reasons = _against_tuning(environment)
    return ("stock", reasons[0]) if reasons else ("tuned", "glibc")


def _against_tuning(environment: Mapping[str, str]) -> list[str]:
    """List the ways in which the user has already chosen an allocator."""
    preloaded = environment.get("LD_PRELOAD", "")
    found = [f"{name} is preloaded" for name in OTHER_MALLOCS if name in preloaded]
    found += [f"{name} is set" for name in OWN_SETTINGS if name in environment]
    if "glibc.malloc." in environment.get("GLIBC_TUNABLES", ""):
        found.append("GLIBC_TUNABLES is set")
    return found


def has_glibc() -> bool:
    """Say whether the C library is glibc; musl, macOS and Windows have another."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):
        return False


def tune_allocator() -> bool:
    """Make glibc keep all freed memory, for the rest of the process.

    Returns:
        Whether glibc accepted.
    """
    global _tuned  # noqa: PLW0603
    mallopt = ctypes.CDLL(None).mallopt
    # Older versions refuse thresholds above 32 MB, but all accept never to map.
    keeps = mallopt(M_MMAP_THRESHOLD, LARGEST) or mallopt(M_MMAP_MAX, 0)
    _tuned = bool(keeps and mallopt(M_TRIM_THRESHOLD, LARGEST))
    return _tuned


def release_memory() -> None:
    """Give freed memory back to the system and to the card.

    A tuned glibc does not do so by itself, nor does PyTorch on CUDA.
    """
    if has_glibc():
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _positive(text: str | None) -> int:
    """Return the positive number in a text, or 0."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() else 0
