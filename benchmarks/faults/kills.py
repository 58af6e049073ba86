"""SIGKILL at random moments, `--resume`, and the bytes of the result beside an undisturbed run's.

    python benchmarks/faults/kills.py --kills 200

A warm parent forks each run, so that a kill costs a fraction of a second; a byte of shared memory
says in which phase the child was when it died. Not on Windows.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["OMP_NUM_THREADS"] = "1"  # a fork of a process with OpenMP's threads would hang

import torch

from distill_core.cli import main
from distill_core.commands import run as run_command
from distill_core.run import loop as run
from distill_core.run import recording
from distill_core.training import expert_cache as experts_store

PHASES = (
    "start",
    "experts",
    "step",
    "checkpoint",
    "artefact",
    "validation",
    "evaluation",
    "report",
)
STEPS, EXPERTS = 6, 8  # of a run
COMMON = [
    *("--dataset", "shapes", "-o", "dataset.classes=4", "-o", "dataset.size=8"),
    *("-o", "dataset.train_per_class=8", "-o", "dataset.test_per_class=4"),
    *("-o", "backbone.width=8", "-o", "backbone.depth=1", "-o", "run.checkpoint_minutes=1e-9"),
    *("-o", "evaluate.nets=2", "-o", "evaluate.steps=4", "-o", "evaluate.full_steps=4"),
    *("-o", "evaluate.every=3", "-o", "evaluate.every_nets=1", "-o", "data.validation=0.25"),
    # The kernels would be compiled anew in the cache of every run.
    *("-o", "engine.path=autograd", "--steps", str(STEPS), "--ipc", "1"),
    *("--repr", "images", "--orderer", "identity"),
]
PROBLEMS = {
    "ratbptt": [
        *("--algo", "ratbptt", "--labeler", "soft", "-o", "algo.window=2", "-o", "algo.total=4"),
        *("-o", "algo.batch=4", "-o", "algo.real_batch=8", "-o", "evaluate.select=best"),
    ],
    "mtt": [
        *("--algo", "mtt", "--labeler", "onehot", "-o", "algo.syn_steps=3"),
        *("-o", f"algo.experts={EXPERTS}"),
        *("-o", "algo.expert_epochs=2", "-o", "algo.max_start=2", "-o", "algo.expert_batch=8"),
    ],
}
CHAIN = 6  # kills of one run before it is let through
Phase = mmap.mmap


class Aim:
    """Aims at the phase with the fewest kills, and learns how long phases last here."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.lasts = dict.fromkeys(PHASES, 0.05)

    def at(self, phases: list[str], draw: random.Random) -> str:
        return min(phases, key=lambda name: (self.counts[name], draw.random()))

    def learn(self, target: str, killed: str | None) -> None:
        if killed:
            self.counts[killed] += 1
        self.lasts[target] *= 1.4 if killed == target else 0.6


def mark(phase: Phase) -> None:
    """Make the program say in which phase it is; for a process that ends soon."""
    spots = [
        (experts_store.Experts, "prepare", "experts"),
        (run.OuterLoop, "_outer_step", "step"),
        (run, "save_checkpoint", "checkpoint"),
        (run_command, "save_result", "artefact"),
        (run_command, "validation_accuracies", "validation"),
        (run_command, "judge", "evaluation"),
        (recording.RunLog, "results", "report"),
        (run_command, "report_of", "report"),
    ]
    for owner, name, label in spots:
        setattr(owner, name, marked(getattr(owner, name), PHASES.index(label), phase))


def marked(function, number: int, phase: Phase):  # type: ignore[no-untyped-def]
    @functools.wraps(function)
    def call(*args, **kwargs):  # type: ignore[no-untyped-def]
        before, phase[0] = phase[0], number
        try:
            return function(*args, **kwargs)
        finally:
            phase[0] = before

    return call


def start(arguments: list[str], cache: Path, log: Path, phase: Phase) -> int:
    """Fork a child that runs a command line; return its process id."""
    phase[0] = 0
    if pid := os.fork():
        return pid
    with contextlib.suppress(BaseException):
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["DISTILL_CACHE"] = str(cache)
        mark(phase)
        code = 1
        try:
            main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        os._exit(code)
    os._exit(3)


def command(run_dir: Path, problem: str) -> list[str]:
    if (run_dir / "run.toml").exists():
        return ["run", "--resume", "--out", str(run_dir)]
    return ["run", "--out", str(run_dir), *COMMON, *PROBLEMS[problem]]


def kill_in(pid: int, target: int, pause: float, skip: int, phase: Phase) -> str | None:
    """Kill a child some time after it has come to a phase; None if it ended before.

    Args:
        pid: the child.
        target: the phase, a number.
        pause: seconds after it came there.
        skip: how often it may come there before.
        phase: where the child says in which phase it is.
    """
    last = -1
    while not os.waitpid(pid, os.WNOHANG)[0]:
        now = phase[0]
        if now == target and now != last:
            skip -= 1
            if skip < 0:
                time.sleep(pause)
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return None
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return PHASES[phase[0]]
        last = now
        time.sleep(0.0001)
    return None


def ahead(problem: str, folder: Path) -> list[str]:
    """Return the phases that a run has yet to go through, as far as its files tell."""
    manifest, done = folder / "run" / "manifest.json", False
    if manifest.exists():
        done = json.loads(manifest.read_text())["outer_steps"] == STEPS
    experts = len([*(folder / "cache" / "experts").glob("*/*.safetensors")])
    without = {"step", "validation"} if done else set()
    without |= {"validation"} if problem == "mtt" else {"experts"}
    without |= {"experts"} if experts == EXPERTS else set()
    return [name for name in PHASES if name not in without]


def episodes(
    problem: str, folder: Path, phase: Phase, aim: Aim, draw: random.Random
) -> Iterator[str]:
    """Yield the phase of each kill of one run, which is let through after the last."""
    run_dir, cache, log = folder / "run", folder / "cache", folder / "log.txt"
    for _ in range(CHAIN):
        target = aim.at(ahead(problem, folder), draw)
        pid = start(command(run_dir, problem), cache, log, phase)
        often = target in ("step", "checkpoint", "artefact")
        skip = draw.randrange(3) if often else 0
        pause = draw.uniform(0, aim.lasts[target])
        killed = kill_in(pid, PHASES.index(target), pause, skip, phase)
        aim.learn(target, killed)
        if killed:
            yield killed
    pid = start(command(run_dir, problem), cache, log, phase)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise SystemExit(f"resuming ended with {code}:\n{log.read_text()[-3000:]}")


def main_of_harness() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so long")
    given = parser.parse_args()
    torch.set_num_threads(1)
    draw, phase = random.Random(given.seed), mmap.mmap(-1, 1)
    aim = Aim()
    counts = aim.counts
    begin, runs, different = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="distill-kills-") as name:
        place, whole = Path(name), {}
        for problem in PROBLEMS:
            folder = place / f"whole-{problem}"
            folder.mkdir()
            arguments = command(folder / "run", problem)
            os.environ["DISTILL_CACHE"] = str(folder / "cache")
            with (
                open(folder / "log.txt", "w", encoding="utf-8") as log,
                contextlib.redirect_stdout(log),
                contextlib.redirect_stderr(log),
                contextlib.suppress(SystemExit),
            ):
                main(arguments)  # in this process, which is warm then
            whole[problem] = (folder / "run" / "distilled.safetensors").read_bytes()
        while counts.total() < given.kills and time.monotonic() - begin < 60 * given.minutes:
            problem = list(PROBLEMS)[runs % 2]
            folder = place / f"{runs}"
            folder.mkdir()
            for _ in episodes(problem, folder, phase, aim, draw):
                pass
            runs += 1
            found = (folder / "run" / "distilled.safetensors").read_bytes()
            different += found != whole[problem]
            shutil.rmtree(folder)
            done = f"{counts.total()} kills, {runs} runs, {different} different"
            print(f"{done}, {time.monotonic() - begin:.0f} s", flush=True)
    for label in PHASES:
        print(f"{label:<12} {counts[label]:>5}")
    print(f"{'all':<12} {counts.total():>5} kills; {different} of {runs} results differ")
    raise SystemExit(1 if different else 0)


if __name__ == "__main__":
    main_of_harness()
