"""Kills, signals, full disks and too little memory, in processes of their own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.distill_core.cli.small_args import arguments, distill

ROOT = Path(__file__).parents[3]
# Patches a function so that at its nth call a signal comes, before or after the work is done.
CHILD = """
import importlib, os, sys
module, name, call, when, number = sys.argv[1:6]
owner = importlib.import_module(module)
*path, name = name.split(".")
for part in path:
    owner = getattr(owner, part)
inner, calls = getattr(owner, name), []
def patched(*args, **kwargs):
    calls.append(1)
    due = len(calls) == int(call)
    if due and when == "before":
        os.kill(os.getpid(), int(number))
    result = inner(*args, **kwargs)
    if due and when == "after":
        os.kill(os.getpid(), int(number))
    return result
setattr(owner, name, patched)
from distill_core.cli import main
main(sys.argv[6:])
"""
EVERY_STEP = ("-o", "run.checkpoint_minutes=1e-9")


def inner_draw(loop):
    """Draw from a stream, as a step does before it fails."""
    torch.rand(3, generator=loop.rng["real_batch"])


def child(code, *args, cache, preexec=None):
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DISTILL_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=preexec,
        check=False,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("cache")
        patch.setenv("DISTILL_CACHE", str(place))
        yield place


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert distill(*arguments(out)).exit_code == 0
    return (out / "distilled.safetensors").read_bytes()


@pytest.mark.parametrize(
    "moment",
    [
        (("distill_core.run", "OuterLoop._outer_step"), 3, "before"),
        (("os", "fsync"), 6, "before"),  # within a write
        (("os", "replace"), 5, "after"),
        (("distill_core.session", "judge"), 1, "after"),
    ],
)
def test_killed_and_resumed_is_as_if_nothing_had_been(moment, whole, cache, tmp_path):
    spot, call, when = moment
    out = tmp_path / "run"
    args = arguments(out, *EVERY_STEP)
    killed = child(CHILD, *spot, str(call), when, str(int(signal.SIGKILL)), *args, cache=cache)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    result = distill("run", "--resume", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "is stale: its owner, process " in result.output
    assert (out / "distilled.safetensors").read_bytes() == whole
    assert not [*out.glob("**/.*.part")]


@pytest.mark.parametrize(
    ("number", "spot"),
    [
        (signal.SIGUSR1, ("distill_core.run", "OuterLoop._outer_step")),
        (signal.SIGTERM, ("distill_core.session", "judge")),
        (signal.SIGUSR1, ("distill_core.recording", "RunLog.results")),
    ],
)
def test_a_signal_ends_with_130_and_the_way_to_go_on(number, spot, whole, cache, tmp_path):
    out = tmp_path / "run"
    ended = child(CHILD, *spot, "1", "before", str(int(number)), *arguments(out), cache=cache)
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr.splitlines()[-1] == f"  distill run --resume --out {out}"
    assert (out / ".lock").read_bytes() == b""
    assert distill("run", "--resume", "--out", str(out)).exit_code == 0
    assert (out / "distilled.safetensors").read_bytes() == whole


def test_a_limit_of_file_size_stops_with_three_lines(whole, cache, tmp_path):
    """The artefact fits below it and the checkpoint does not."""
    out = tmp_path / "run"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    main = "import sys; from distill_core.cli import main; main(sys.argv[1:])"
    ended = child(main, *arguments(out, *EVERY_STEP), cache=cache, preexec=limit)
    assert ended.returncode == 1, ended.stderr
    assert "File too large" in ended.stderr.splitlines()[0]
    assert f"distill run --resume --out {out}" in ended.stderr.splitlines()[2]
    assert "Traceback" not in ended.stderr
    assert distill("run", "--resume", "--out", str(out)).exit_code == 0
    assert (out / "distilled.safetensors").read_bytes() == whole


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or not sys.platform.startswith("linux"):
        pytest.skip("only root can mount a small file system, on Linux")
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(whole, cache, small_disk):
    out, ballast = small_disk / "run", small_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    result = distill(*arguments(out, *EVERY_STEP))
    assert result.exit_code == 1, result.output
    assert "No space left on device" in result.stderr.splitlines()[0], result.stderr
    assert f"distill run --resume --out {out}" in result.stderr.splitlines()[2]
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    result = distill("run", "--resume", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert (out / "distilled.safetensors").read_bytes() == whole


def test_a_directory_that_vanishes_is_a_sentence(cache, tmp_path, monkeypatch):
    from distill_core import run

    out, inner, calls = tmp_path / "run", run.OuterLoop._outer_step, []

    def step(loop):
        calls.append(1)
        if len(calls) == 3:
            out.rename(tmp_path / "elsewhere")
        inner(loop)

    monkeypatch.setattr(run.OuterLoop, "_outer_step", step)
    result = distill(*arguments(out, *EVERY_STEP))
    assert result.exit_code == 1, result.output
    assert "the system refused something: " in result.stderr.splitlines()[0]
    monkeypatch.undo()
    monkeypatch.setenv("DISTILL_CACHE", str(cache))
    assert not out.exists()
    assert distill("run", "--resume", "--out", str(tmp_path / "elsewhere")).exit_code == 0


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to...")],
)
def test_too_little_memory_says_what_lowers_it(error, whole, cache, tmp_path, monkeypatch):
    from distill_core import run

    out, inner, calls = tmp_path / "run", run.OuterLoop._outer_step, []

    def step(loop):
        calls.append(1)
        if len(calls) == 3:
            inner_draw(loop)
            raise error
        inner(loop)

    monkeypatch.setattr(run.OuterLoop, "_outer_step", step)
    result = distill(*arguments(out))
    assert result.exit_code == 1, result.output
    first, _, then = result.stderr.splitlines()
    assert first.startswith("there is not enough memory")
    assert "-o engine.real_chunk=125 and -o engine.microbatch=50, or let --max-memory" in then
    assert "The state is saved at outer step 2" in then
    monkeypatch.setattr(run.OuterLoop, "_outer_step", inner)
    assert distill("run", "--resume", "--out", str(out)).exit_code == 0
    assert (out / "distilled.safetensors").read_bytes() == whole
