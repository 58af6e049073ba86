"""Runs of two processes from the command line, which are started, stopped and killed."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill_core.cli import main
from distill_core.cli.errors import Display
from distill_core.cli.processes import as_rank, check_procs
from distill_core.distributed.launch import EXIT_CODE_FILE
from distill_core.distributed.ranks import SINGLE_PROCESS
from distill_core.run.observers import snapshots_of
from registry import OptionError
from tests.caches import make_cache
from tests.distill_core.cli.small_args import arguments, distill
from tests.forks import Fork, fork_distill

Start = Callable[..., Fork]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_cache(tmp_path_factory.mktemp("cache")))


def with_forked_ranks(args: tuple[str, ...]) -> None:
    """Run a command line; torch's launcher forks the ranks instead of starting Python for each.

    They import nothing then, which is most of what a small run takes. Nothing else is changed.
    """
    from torch.distributed.launcher import api

    fork_ranks(api)
    main(list(args))


def torchrun(args: tuple[str, ...]) -> None:
    """Be `torchrun ARGS`, with forked ranks."""
    from torch.distributed import run

    fork_ranks(run)
    run.main(list(args))


def fork_ranks(module: ModuleType) -> None:
    """Make a module's `elastic_launch` fork its processes."""
    launcher = module.elastic_launch

    def forking(config: Any, entrypoint: str) -> Callable[..., object]:
        assert entrypoint == sys.executable
        config.start_method = "fork"
        return launcher(config, rank)

    module.elastic_launch = forking  # type: ignore[attr-defined]


def rank(*words: str) -> None:
    """Be one of the processes that the launcher starts with these words."""
    program = words.index("-m") + 2
    assert words[:program] in [("-m", "distill_core"), ("-u", "-m", "distill_core")]
    main(list(words[program:]))


def fork_all(*args: str, folder: Path, **environment: str) -> Fork:
    """Fork a process that runs a command line, and that forks its ranks."""
    return Fork(with_forked_ranks, args, folder=folder, environment=environment)


@pytest.fixture
def start(cache: str, tmp_path: Path) -> Start:
    """Start a command line; processes that it starts by itself are not forked, unless `by` does."""
    number = count()

    def start(*args: str, by: Start = fork_distill, **environment: str) -> Fork:
        folder = tmp_path / f"printed{next(number)}"
        return by(*args, folder=folder, DISTILL_CACHE=cache, **environment)

    return start


@pytest.fixture(scope="module")
def ours(cache: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    """A finished run of two processes, its command line and what it printed."""
    folder = tmp_path_factory.mktemp("ours")
    given = arguments(folder / "run", "--procs", "2", "--snapshots", "3")
    process = fork_all(*given, folder=folder / "printed", DISTILL_CACHE=cache)
    printed, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert errors == ""
    return folder / "run", given, printed


def wait_for_steps(out: Path, processes: list[Fork]) -> None:
    metrics, limit = out / "metrics.jsonl", time.monotonic() + 180
    while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < limit
        time.sleep(0.05)


def start_pair(start: Start, given: list[str]) -> list[Fork]:
    """Two processes without a launcher, which is nothing but an environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [start(*given, RANK=str(rank), **meeting) for rank in range(2)]


def step_of(out: Path) -> int:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1))
    return len(steps)


def test_procs_makes_the_run_and_its_verdict(ours: tuple[Path, list[str], str], tmp_path: Path):
    out, given, printed = ours
    assert "on shapes (cpu, 2 processes)" in printed
    assert printed.count("step 4/4  loss") == 1
    assert printed.count("distilled: network") == 2
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["processes"] == 2
    assert manifest["commands"] == [["distill", *given]]
    assert [path.name for path in snapshots_of(out)] == [
        f"step_{step:07}.png" for step in (0, 2, 4)
    ]
    assert set(manifest["results"]) == {"distilled", "random", "full"}
    writers = {path.name.split(".")[-2] for path in out.glob("events.out.tfevents.*")}
    assert len(writers) == 1  # the number of the one process that writes
    alone = tmp_path / "alone"
    assert distill(*arguments(alone)).exit_code == 0
    one, two = (load_file(path / "distilled.safetensors") for path in (alone, out))
    assert torch.equal(one["class_grid"], two["class_grid"])
    assert not torch.equal(one["pixels"], two["pixels"])


def test_torchrun_makes_the_same_run(ours: tuple[Path, list[str], str], cache: str, tmp_path: Path):
    words = ("--standalone", "--nproc-per-node", "2", "-m", "distill_core")
    given = (*words, *arguments(tmp_path / "theirs"))
    environment = {"OMP_NUM_THREADS": "1", "DISTILL_CACHE": cache}
    process = Fork(torchrun, given, folder=tmp_path / "printed", environment=environment)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    one, two = (load_file(run / "distilled.safetensors") for run in (ours[0], tmp_path / "theirs"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_is_killed_under_the_launcher(number: int, start: Start, tmp_path: Path):
    """As the system does where memory runs out. What was saved goes on."""
    out = tmp_path / "run"
    parent = start(*arguments(out, "--procs", "2", "--steps", "100000", "--yes"), by=fork_all)
    wait_for_steps(out, [parent])
    ranks = children_of(parent.pid)  # in the order in which the launcher makes them
    assert len(ranks) == 2
    os.kill(ranks[number], signal.SIGKILL)
    _, errors = parent.communicate(timeout=120)
    assert parent.returncode == 1, errors
    assert "Traceback" not in errors
    assert errors.count(f"`distill run --resume --out {out}`") == 1, errors
    result = distill("run", "--resume", "--out", str(out), "--procs", "1", "--minutes", "0.001")
    assert result.exit_code == 0, result.output


def children_of(pid: int) -> list[int]:
    """Processes that a process has started, the oldest first."""
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1], ids=["SIGINT", "SIGUSR1"])
def test_a_signal_to_the_parent_saves_and_one_process_goes_on(
    number: signal.Signals, start: Start, tmp_path: Path
):
    """Ranks that are started, not forked, are part of `.ci/run`."""
    out = tmp_path / "run"
    process = start(*arguments(out, "--procs", "2", "--steps", "100000", "--yes"), by=fork_all)
    wait_for_steps(out, [process])
    if number == signal.SIGUSR1:  # the lock is that of one of the two processes
        other = distill("run", "--resume", "--out", str(out), "--procs", "1")
        assert other.exit_code == 2, other.output
        assert f"{out} is in use by another run: process " in other.stderr.splitlines()[0]
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.splitlines() == [
        "ending after this outer step",
        "Interrupted; the state is saved. To resume:",
        f"  distill run --resume --out {out}",
    ]
    more = step_of(out) + 1
    arguments_of_one = ("--procs", "1", "--steps", str(more))
    result = distill("run", "--resume", "--out", str(out), *arguments_of_one)
    assert result.exit_code == 0, result.output
    assert step_of(out) == more
    assert json.loads((out / "manifest.json").read_text())["processes"] == 1


@pytest.mark.parametrize(
    ("number", "minutes"),
    [(signal.SIGKILL, 10.0), (signal.SIGSTOP, 0.1)],
    ids=["killed", "stopped"],
)
def test_a_lost_rank_ends_the_run_with_a_state_that_goes_on(
    number: signal.Signals, minutes: float, start: Start, tmp_path: Path
):
    """Without torchrun: the environment is all that a launcher gives.

    One that was killed is missed at once, one that has stopped after `run.rank_timeout_minutes`.
    """
    out = tmp_path / "run"
    first, second = start_pair(
        start, arguments(out, "--steps", "100000", "-o", f"run.rank_timeout_minutes={minutes}")
    )
    wait_for_steps(out, [first, second])
    second.send_signal(number)
    begin = time.monotonic()
    try:
        _, errors = first.communicate(timeout=120)
        waited = time.monotonic() - begin
    finally:
        first.kill()
        second.kill()
        second.communicate()
    assert waited < 20 + (60 * minutes if number == signal.SIGSTOP else 0)
    assert first.returncode == 1
    what, expected, then = errors.splitlines()[-3:]
    assert len(errors.splitlines()) == 3, errors
    assert what.startswith("one of 2 processes has ended or does not answer: ")
    assert expected == "Expected all processes of the run until it is complete."
    step = step_of(out)
    assert then == (
        f"Next: the state is saved at outer step {step}; go on with "
        f"`distill run --resume --out {out}`, with any number of processes."
    )
    result = distill("run", "--resume", "--out", str(out), "--steps", str(step + 1))
    assert result.exit_code == 0, result.output
    assert step_of(out) == step + 1


@pytest.mark.parametrize(
    ("stopped", "steps"),
    [(0, 2), (1, 2), (0, 100000)],
    ids=["first while judging", "second while judging", "first while distilling"],
)
def test_a_rank_that_stops_is_missed_whatever_it_does(
    stopped: int, steps: int, start: Start, tmp_path: Path
):
    """Also rank 0, through which the others meet, and which cannot tell what is wrong then."""
    out = tmp_path / "run"
    limits = ("-o", "run.rank_timeout_minutes=0.1", "-o", "evaluate.steps=2000")
    pair = start_pair(start, arguments(out, "--steps", str(steps), *limits))
    wait_for_steps(out, pair)
    time.sleep(1)
    pair[stopped].send_signal(signal.SIGSTOP)
    try:
        _, errors = pair[1 - stopped].communicate(timeout=60)
    finally:
        for process in pair:
            process.kill()
            process.communicate()
    assert pair[1 - stopped].returncode == 1, errors
    what, _, then = errors.splitlines()[-3:]
    assert what.startswith("one of 2 processes has ended or does not answer: ")
    known = "the state is saved at outer step 2" if stopped else "what rank 0 has saved is kept"
    how = f"`distill run --resume --out {out}`, with any number of processes"
    assert then == f"Next: {known}; go on with {how}."


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (("--procs", "2", "--orderer", "pocco"), "no orderer named 'pocco'."),
        (
            ("--procs", "2", "--device", "cuda:1"),
            "device 'cuda:1' cannot be shared",
        ),
        (("--procs", "0"), "invalid value for '--procs'"),
    ],
)
def test_other_mistakes_are_found_before_anything_is_started(
    changes: tuple[str, ...], what: str, tmp_path: Path
):
    result = distill(*arguments(tmp_path / "never", *changes))
    assert result.exit_code == 2
    assert what in result.stderr.splitlines()[0]


def test_dry_run_starts_nothing(tmp_path: Path):
    result = distill(*arguments(tmp_path / "none", "--procs", "2", "--dry-run"))
    assert result.exit_code == 0, result.output
    assert " beyond the data in each of 2 processes; " in result.output


def test_processes_that_nobody_asked_for_are_told(tmp_path, monkeypatch):
    command = importlib.import_module("distill_core.cli.run")
    monkeypatch.setattr(command, "launch", lambda *args, **how: 0)
    monkeypatch.setattr(command, "usable", lambda procs, device: procs)
    told = "procs    2 processes share each outer step, as run.procs says; --procs 1 "
    assert told in distill(*arguments(tmp_path / "a", "-o", "run.procs=2")).output
    assert "procs " not in distill(*arguments(tmp_path / "a", "--procs", "2")).output


def test_a_long_run_of_processes_needs_a_word_too(start: Start, tmp_path: Path):
    """More than an hour, whatever the machine: a billion outer steps."""
    given = arguments(tmp_path / "run", "--procs", "2", "--steps", str(10**9))
    process = start(*given, by=fork_all)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    # Said once, by one rank; the machine may add a line of its own where it is busy.
    said = [line for line in errors.splitlines() if "the run would take about " in line]
    assert len(said) == 1, errors
    assert said[0].startswith("the run would take about ")
    assert sum("--yes" in line for line in errors.splitlines()) == 1, errors
    assert not (tmp_path / "run").exists()


def test_procs_under_a_launcher_is_a_mistake():
    with pytest.raises(OptionError) as caught:
        check_procs(2, {})
    assert caught.value.what == ("--procs 2 was given to a process that a launcher started.")
    check_procs(None, {})
    check_procs(2, {EXIT_CODE_FILE: "a file of the process that started it"})


def test_rank_0_leaves_its_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(EXIT_CODE_FILE, str(tmp_path / "code"))
    assert as_rank(SINGLE_PROCESS, lambda: 130, Display()) == 130
    assert (tmp_path / "code").read_text() == "130"
