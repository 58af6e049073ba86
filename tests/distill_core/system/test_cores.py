from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from distill_core.system.cores import count_cores, cpu_quota, physical_cores, processor


def topology_of(folder: Path, siblings: list[str], name: str = "core_cpus_list") -> Path:
    """A kernel's description of hardware threads, each with the list of its core."""
    for number, text in enumerate(siblings):
        topology = folder / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / name).write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_hardware_threads_of_one_core_count_once(tmp_path, name):
    described = topology_of(tmp_path, ["0,2", "1,3", "0,2", "1,3"], name)
    assert physical_cores(range(4), described) == 2
    assert physical_cores([0, 2], described) == 1
    assert physical_cores([0, 1], described) == 2
    assert physical_cores([3], described) == 1


def test_a_system_that_does_not_tell_counts_every_thread(tmp_path):
    assert physical_cores(range(6), tmp_path / "nothing") == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None), ("1 0", None)],
)
def test_the_quota_of_a_container(tmp_path, text, expected):
    file = tmp_path / "cpu.max"
    file.write_text(text)
    assert cpu_quota(file) == expected
    assert cpu_quota(tmp_path / "absent") is None


def test_a_quota_and_the_affinity_mask_limit_the_count(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr("distill_core.system.cores.TOPOLOGY", tmp_path / "nothing")
    monkeypatch.setattr("distill_core.system.cores.QUOTA", tmp_path / "cpu.max")
    assert count_cores() == 8
    (tmp_path / "cpu.max").write_text("250000 100000")
    assert count_cores() == 3
    (tmp_path / "cpu.max").write_text("10000 100000")
    assert count_cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert count_cores() == 1


def test_the_name_of_the_processor(tmp_path, monkeypatch):
    monkeypatch.setattr("distill_core.system.cores.PROCESSORS", tmp_path / "cpuinfo")
    assert processor() == (platform.processor() or platform.machine())
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU: fast\n" * 2)
    assert processor() == "Some CPU: fast"
