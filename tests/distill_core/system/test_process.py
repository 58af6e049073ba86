from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distill_core.system import process as runtime
from distill_core.system.cores import count_cores
from distill_core.system.process import (
    allocator,
    decide,
    decide_allocator,
    decide_threads,
    has_glibc,
    prepare,
    release_memory,
    tune_allocator,
)
from registry import InputError
from tests.distill_core.small_run import small_config
from tests.forks import Fork

ELASTIC = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("asked", "environment", "cores", "expected"),
    [
        (None, {}, 8, 8),
        (3, {"OMP_NUM_THREADS": "5", "LOCAL_WORLD_SIZE": "2"}, 8, 3),
        (None, {"OMP_NUM_THREADS": "5"}, 8, 5),
        (None, {"OMP_NUM_THREADS": "5,2"}, 8, 5),
        (None, {"OMP_NUM_THREADS": "0"}, 8, 8),
        (None, {"OMP_NUM_THREADS": "many"}, 8, 8),
        (None, {"LOCAL_WORLD_SIZE": "3"}, 8, 2),
        (None, {"LOCAL_WORLD_SIZE": "16"}, 8, 1),
        (None, {"LOCAL_WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"}, 8, 1),
        (None, {"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, 8, 1),
        (None, ELASTIC | {"OMP_NUM_THREADS": "1"}, 8, 4),
        (None, ELASTIC | {"OMP_NUM_THREADS": "3"}, 8, 3),
    ],
)
def test_threads(asked, environment, cores, expected):
    assert decide_threads(asked, environment, cores=cores)[0] == expected


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"}, "jemalloc is preloaded"),
        ({"LD_PRELOAD": "libc++.so libtcmalloc_minimal.so.4"}, "tcmalloc is preloaded"),
        ({"LD_PRELOAD": "/opt/libmimalloc.so"}, "mimalloc is preloaded"),
        ({"MALLOC_MMAP_THRESHOLD_": "1"}, "MALLOC_MMAP_THRESHOLD_ is set"),
        ({"MALLOC_TRIM_THRESHOLD_": "1"}, "MALLOC_TRIM_THRESHOLD_ is set"),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=9"}, "GLIBC_TUNABLES is set"),
    ],
)
def test_what_the_user_chose_for_the_process_is_left_alone(environment, reason):
    assert decide_allocator("auto", environment, glibc=True) == ("stock", reason)
    assert decide_allocator("tuned", environment, glibc=True) == ("tuned", "run.allocator")


@pytest.mark.parametrize(
    "environment", [{}, {"LD_PRELOAD": "libfaketime.so"}, {"GLIBC_TUNABLES": "glibc.pthread.x=1"}]
)
def test_the_allocator_is_tuned_where_nothing_speaks_against_it(environment):
    assert decide_allocator("auto", environment, glibc=True)[0] == "tuned"
    assert decide_allocator("stock", environment, glibc=True) == ("stock", "run.allocator")


def test_without_glibc_there_is_nothing_to_tune():
    assert decide_allocator("auto", {}, glibc=False) == ("stock", "no glibc")
    with pytest.raises(InputError, match="needs glibc's allocator"):
        decide_allocator("tuned", {}, glibc=False)


def test_the_line_for_the_console():
    config = small_config(threads=1)
    tuned = decide(config, {}, cores=2, glibc=True)
    assert str(tuned) == "1 thread (of 2 cores), allocator tuned"
    stock = decide(small_config(), {"MALLOC_MMAP_THRESHOLD_": "1"}, cores=1, glibc=True)
    assert str(stock) == "1 thread (of 1 core), allocator stock (MALLOC_MMAP_THRESHOLD_ is set)"


def test_preparing_sets_the_threads_and_tells_what_glibc_did(monkeypatch):
    monkeypatch.setattr(runtime, "_tuned", False)
    monkeypatch.setattr(runtime, "has_glibc", lambda: True)
    monkeypatch.setattr(runtime, "tune_allocator", lambda: False)
    before = torch.get_num_threads()
    try:
        refused = prepare(small_config(threads=2, allocator="tuned"))
        assert torch.get_num_threads() == refused.threads == 2
        assert refused.cores == count_cores()
        assert str(refused).endswith("allocator stock (glibc refused)")
        monkeypatch.setattr(runtime, "_tuned", True)
        # It cannot be undone, so a later run in the same process must not claim to be stock.
        assert prepare(small_config(threads=2, allocator="stock")).allocator == "tuned"
    finally:
        torch.set_num_threads(before)


OWN = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_")
fresh_glibc = pytest.mark.skipif(
    not has_glibc() or any(name.startswith(OWN) for name in os.environ),
    reason="only glibc can be tuned, unless it is already",
)


def count_faults(kind: str) -> None:
    """Print the pages that are faulted in by ten times 64 MB."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    if kind == "tuned":
        assert tune_allocator()
    assert allocator() == kind

    def take() -> None:
        address = libc.malloc(ctypes.c_size_t(2**26))
        ctypes.memset(address, 1, 2**26)
        libc.free(ctypes.c_void_p(address))

    take()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        take()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


def printed_by(folder: Path, call: Callable[..., None], *args: str) -> list[int]:
    """The numbers that a process of its own prints, with an allocator as it is at first."""
    process = Fork(call, *args, folder=folder)
    stdout, stderr = process.communicate(60)
    assert process.returncode == 0, stderr
    return [*map(int, stdout.split())]


@fresh_glibc
def test_a_tuned_process_keeps_its_memory(tmp_path):
    """Ten times 64 MB: stock glibc has its pages faulted in anew every time, tuned never."""
    stock, tuned = (printed_by(tmp_path, count_faults, kind)[0] for kind in ("stock", "tuned"))
    assert tuned < 50
    assert stock > 5 * (tuned + 1)


def release() -> None:
    """Print the MiB that are kept after 256 of them are freed, and those after they are told to."""

    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024

    assert tune_allocator()
    torch.ones(2**20).add(1)
    before = resident()
    large = torch.ones(2**26)
    above = torch.ones(1000)
    del large
    kept = resident() - before
    release_memory()
    print(kept, resident() - before)
    del above


@fresh_glibc
def test_a_tuned_process_gives_memory_back_when_told(tmp_path):
    kept, left = printed_by(tmp_path, release)
    assert kept > 200  # of 256 MiB
    assert left < 50


def test_threads_of_a_run_that_is_only_looked_at(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    try:
        assert prepare(small_config(), processes=count_cores()).threads == 1
    finally:
        torch.set_num_threads(before)
