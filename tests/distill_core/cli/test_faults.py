"""Kills, signals, full disks and too little memory, in processes of their own."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import subprocess
import sys

import pytest
import torch

from distill_core.cli import main
from tests.caches import make_cache
from tests.distill_core.cli.fault_child import Limit, Signal, Spot, child
from tests.distill_core.cli.small_args import arguments, distill

GOING_ON = ("distill", "run", "--resume", "--out")
# The kernels would be compiled once more for this cache, and memory is not needed for them.
AUTOGRAD = ("-o", "engine.path=autograd")
EVERY_STEP = ("-o", "run.checkpoint_minutes=1e-9", *AUTOGRAD)


def inner_draw(loop):
    """Draw from a stream, as a step does before it fails."""
    torch.rand(3, generator=loop.rng["real_batch"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        place = make_cache(tmp_path_factory.mktemp("cache"))
        patch.setenv("DISTILL_CACHE", str(place))
        yield place


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert distill(*arguments(out, *AUTOGRAD)).exit_code == 0
    return (out / "distilled.safetensors").read_bytes()


@pytest.mark.parametrize(
    "spot",
    [
        Spot("distill_core.run.loop", "OuterLoop._outer_step", 3),
        Spot("os", "fsync", 6),  # within a write
        Spot("os", "replace", 5, "after"),
        Spot("distill_core.commands.run_end", "judge", 1, "after"),
        Spot("distill_core.commands.run_end", "report_of"),
    ],
    ids=lambda spot: spot.name,
)
def test_killed_and_resumed_is_as_if_nothing_had_been(spot, whole, cache, tmp_path):
    out = tmp_path / "run"
    killed = child(arguments(out, *EVERY_STEP), tmp_path / "child", Signal(signal.SIGKILL), spot)
    assert killed.code == -signal.SIGKILL, killed.stderr
    result = distill("run", "--resume", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "is stale: its owner, process " in result.output
    assert (out / "distilled.safetensors").read_bytes() == whole
    assert not [*out.glob("**/.*.part")]


@pytest.mark.parametrize(
    ("number", "spot"),
    [
        (signal.SIGHUP, Spot("distill_core.run.loop", "OuterLoop._outer_step")),
        (signal.SIGTERM, Spot("distill_core.commands.run_end", "judge")),
        (signal.SIGUSR1, Spot("distill_core.run.recording", "RunLog.results")),
    ],
    ids=["step", "evaluation", "report"],
)
def test_a_signal_ends_with_130_and_the_way_to_go_on(number, spot, whole, cache, tmp_path):
    out = tmp_path / "my run"
    ended = child(arguments(out, *AUTOGRAD), tmp_path / "child", Signal(number), spot)
    assert ended.code == 130, ended.stderr
    assert shlex.split(ended.stderr.splitlines()[-1]) == [*GOING_ON, str(out)]
    assert (out / ".lock").read_bytes() == b""
    assert distill("run", "--resume", "--out", str(out)).exit_code == 0
    assert (out / "distilled.safetensors").read_bytes() == whole


def test_a_reader_that_leaves_does_not_end_a_run(whole, cache, tmp_path, monkeypatch, capsys):
    out, (reader, writer) = tmp_path / "run", os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as left:
            main(arguments(out, *AUTOGRAD))
    assert left.value.code == 0
    assert capsys.readouterr().err == (
        f"nothing more can be shown: Broken pipe; the run goes on, and {out} holds what it finds.\n"
    )
    assert (out / "distilled.safetensors").read_bytes() == whole


def test_a_limit_of_file_size_stops_with_three_lines(whole, cache, tmp_path):
    """The artefact fits below it and the checkpoint does not."""
    out = tmp_path / "my run"
    limit = Limit(resource.RLIMIT_FSIZE, 30_000)
    ended = child(arguments(out, *EVERY_STEP), tmp_path / "child", limit)
    assert ended.code == 1, ended.stderr
    first, _, last = ended.stderr.splitlines()
    assert "File too large" in first
    assert shlex.split(last.split("`")[1]) == [*GOING_ON, str(out)]
    assert "Traceback" not in ended.stderr
    assert distill("run", "--resume", "--out", str(out)).exit_code == 0
    assert (out / "distilled.safetensors").read_bytes() == whole


# Two layers of 1024: 36 MiB of weights, which "stock" gives back whenever they are freed.
WIDE = (
    *("-o", "backbone.width=1024", "-o", "backbone.depth=2", "-o", "run.allocator=stock"),
    *("-o", "evaluate.controls=false", "-o", "algo.total=2", "-o", "algo.batch=2"),
    *("-o", "algo.real_batch=4"),
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS is Linux's")
@pytest.mark.parametrize(
    ("spot", "said"),
    [
        (
            Spot("distill_core.run.loop", "OuterLoop._outer_step", 2),
            "The state is saved at outer step 1",
        ),
        (Spot("distill_core.commands.run_end", "judge"), "or choose another --device."),
        (Spot("distill_core.commands.run", "assemble"), "choose a smaller --backbone"),
    ],
    ids=["step", "evaluation", "loading"],
)
def test_memory_that_runs_out_is_explained_wherever_it_happens(spot, said, cache, tmp_path):
    """From some moment on 30 MiB are allowed."""
    out, limit = tmp_path / "run", Limit(resource.RLIMIT_AS, 30 * 2**20, beyond=True)
    args = arguments(out, *AUTOGRAD, *WIDE, "--steps", str(spot.call))
    ended = child(args, tmp_path / "child", limit, spot)
    assert ended.code == 1, ended.stderr
    what, expected, then = ended.stderr.splitlines()[-3:]
    assert what.startswith("there is not enough memory: "), ended.stderr
    assert expected.startswith("Expected room for ")
    assert said in then
    assert "Traceback" not in ended.stderr


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


def test_a_directory_that_becomes_read_only_stops_the_run(whole, cache, small_disk, monkeypatch):
    """Even for root, whom permissions do not bind."""
    from distill_core.run import loop as run

    out, inner, calls = small_disk / "run", run.OuterLoop._outer_step, []
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)

    def step(loop):
        calls.append(1)
        if len(calls) == 3:
            # Files that are open for writing, as the lock and the events are, keep others from it.
            subprocess.run(["mount", "--bind", str(small_disk), str(small_disk)], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", str(small_disk)], check=True)
        inner(loop)

    monkeypatch.setattr(run.OuterLoop, "_outer_step", step)
    result = distill(*arguments(out, *EVERY_STEP))
    subprocess.run(["umount", str(small_disk)], check=True)
    assert result.exit_code == 1, result.output
    what, _, then = result.stderr.splitlines()
    assert "Read-only file system" in what
    assert (
        f"The state is saved at outer step 2; go on with `distill run --resume --out {out}`" in then
    )
    monkeypatch.setattr(run.OuterLoop, "_outer_step", inner)
    assert distill("run", "--resume", "--out", str(out)).exit_code == 0
    assert (out / "distilled.safetensors").read_bytes() == whole


def test_a_directory_that_is_read_only_is_refused_before_any_work(cache, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    result = distill(*arguments(small_disk / "run", *AUTOGRAD))
    assert result.exit_code == 1, result.output
    assert "Read-only file system" in result.stderr.splitlines()[0]
    assert "step 1/4" not in result.output
    assert [*small_disk.iterdir()] == []


def test_a_directory_that_vanishes_is_a_sentence(cache, tmp_path, monkeypatch):
    from distill_core.run import loop as run

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
    from distill_core.run import loop as run

    out, inner, calls = tmp_path / "run", run.OuterLoop._outer_step, []

    def step(loop):
        calls.append(1)
        if len(calls) == 3:
            inner_draw(loop)
            raise error
        inner(loop)

    monkeypatch.setattr(run.OuterLoop, "_outer_step", step)
    result = distill(*arguments(out, *AUTOGRAD))
    assert result.exit_code == 1, result.output
    first, _, then = result.stderr.splitlines()
    assert first.startswith("there is not enough memory")
    assert "-o engine.real_chunk=8 and -o engine.microbatch=4, or let --max-memory" in then
    assert "The state is saved at outer step 2" in then
    monkeypatch.setattr(run.OuterLoop, "_outer_step", inner)
    assert distill("run", "--resume", "--out", str(out)).exit_code == 0
    assert (out / "distilled.safetensors").read_bytes() == whole
