"""The process, set up for the machine: threads, arithmetic, and how memory is allocated.

The one place that does this, called once by every command that computes. What to do is decided
by pure functions from the settings and the environment; `prepare` alone changes the process.
Cores are counted in `cores.py`; how a CUDA device computes is in `arithmetic.py`.

Why the allocator: stock glibc returns every large tensor to the system and has each of its pages
zeroed anew when the next one is made. Keeping that memory doubled the speed of distillation on
CPUs (docs/guide/machine.md).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from distill_core.arithmetic import set_arithmetic
from distill_core.config import RunConfig
from distill_core.cores import count_cores
from registry import InputError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
LARGEST = 2**31 - 1
OTHER_MALLOCS = ("jemalloc", "tcmalloc", "mimalloc", "snmalloc", "rpmalloc", "hoard", "tbbmalloc")
OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")

# A fact about the process, not a setting: glibc can neither be asked nor be set back.
_tuned = False


@dataclass(frozen=True)
class Runtime:
    """How the process computes, and why.

    Attributes:
        threads: threads of PyTorch in this process.
        cores: physical cores that the process may use.
        threads_reason: why so many threads.
        allocator: "tuned": glibc keeps memory that was freed; "stock": it was left alone.
        allocator_reason: why.
    """

    threads: int
    cores: int
    threads_reason: str
    allocator: str
    allocator_reason: str

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        why = f" ({self.allocator_reason})" if self.allocator == "stock" else ""
        return f"{threads} (of {cores}), allocator {self.allocator}{why}"


def prepare(config: RunConfig, processes: int = 1) -> Runtime:
    """Set threads, allocator and arithmetic of this process for a run.

    Args:
        config: `threads`, `allocator` and `deterministic` are read.
        processes: how many share this machine, where no launcher has said so.

    Returns:
        What was done; the allocator is "stock" where glibc refused.

    Raises:
        InputError: `run.allocator=tuned` asks for what this system does not have.
    """
    environment = {"LOCAL_WORLD_SIZE": str(processes), **os.environ}
    runtime = decide(config, environment, cores=count_cores(), glibc=has_glibc())
    torch.set_num_threads(runtime.threads)
    set_arithmetic(config)
    if runtime.allocator == "tuned" and not tune_allocator():
        return replace(runtime, allocator="stock", allocator_reason="glibc refused")
    if runtime.allocator != allocator():
        return replace(runtime, allocator=allocator(), allocator_reason="since an earlier run")
    return runtime


def allocator() -> str:
    """Return how memory is allocated in this process now: "tuned" or "stock"."""
    return "tuned" if _tuned else "stock"


def decide(
    config: RunConfig, environment: Mapping[str, str], *, cores: int, glibc: bool
) -> Runtime:
    """Say how a process with these settings and this environment is to compute.

    Args:
        config: `threads` and `allocator` are read.
        environment: environment variables.
        cores: physical cores that the process may use.
        glibc: whether memory comes from glibc's malloc, unless another one is preloaded.

    Raises:
        InputError: `run.allocator=tuned` asks for what this system does not have.
    """
    threads, threads_reason = decide_threads(config.threads, environment, cores=cores)
    allocator, allocator_reason = decide_allocator(config.allocator, environment, glibc=glibc)
    return Runtime(threads, cores, threads_reason, allocator, allocator_reason)


def decide_threads(
    asked: int | None, environment: Mapping[str, str], *, cores: int
) -> tuple[int, str]:
    """Return a number of threads, at least 1, and why.

    OMP_NUM_THREADS counts the threads of one process, so it is not divided among the processes
    of a distributed run. torchrun sets it to 1 where the user did not; that is no wish of theirs.

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
        InputError: "tuned" is asked for, but there is no glibc to tune.
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
    """Say how the user has already chosen how the process allocates memory."""
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
    """Make glibc keep all memory that is freed, for the rest of the process.

    Returns:
        Whether glibc accepted.
    """
    global _tuned  # noqa: PLW0603
    mallopt = ctypes.CDLL(None).mallopt
    # Older versions refuse thresholds above 32 MB, but all can be told never to map.
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
    """Return the positive number that a text is, or 0."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() else 0
