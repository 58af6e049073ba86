"""SIGKILL at random moments; what a user reads right after; and the bytes of what goes on.

    python benchmarks/faults/kills.py --kills 500

Covers run (with experts, and a finished run that is resumed), evaluate, export, report, sweep
(driver and cell) and new-plugin. After each kill, before anything is resumed, the directory is read
by all that reads one: the last good result must be there. In the end every command is let through,
and the bytes of the result are compared with an undisturbed run's.

Half of the kills of a run come some time after it has reached a phase, the one with the fewest
kills so far; all others come right before the n-th change of the disk. A warm parent forks each
command, so that a kill costs a fraction of a second. Not on Windows.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["OMP_NUM_THREADS"] = "1"  # a fork of a process with OpenMP's threads would hang

import torch
from children import PHASES, Changes, Shared, be, ended, kill_in, start
from reading import PLUGIN, LostError, Seen, read_export, read_page, read_plugin, read_run_dir
from sweeps import Sweep

from distill_core.config.settings import read_settings

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
AFTER = ("resume", "evaluate", "export", "report", "new-plugin")  # each killed twice
SWEEP_EVERY, SWEEP_KILLS = 5, 5
DISTILLED = "distilled.safetensors"


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


@dataclass
class Harness:
    """What all episodes share.

    Attributes:
        draw: of everything.
        shared: with the children.
        aim: at phases of a run.
        changes: of the disk, by command.
        counts: kills by command.
    """

    draw: random.Random
    shared: Shared = field(default_factory=Shared.new)
    aim: Aim = field(default_factory=Aim)
    changes: Changes = field(default_factory=Changes)
    counts: collections.Counter[str] = field(default_factory=collections.Counter)


class Episode:
    """One run, from its first kill to the last command on its result.

    Args:
        harness: what all episodes share.
        problem: a name in `PROBLEMS`.
        folder: everything is below it.
    """

    def __init__(self, harness: Harness, problem: str, folder: Path) -> None:
        self.harness, self.problem, self.folder = harness, problem, folder
        self.run_dir, self.exported = folder / "run", folder / "export"
        self.seen, self.page, self.has_export, self.has_plugin = Seen(), False, False, False

    def arguments(self, name: str) -> list[str]:
        """Return the command line of a command."""
        run_dir = str(self.run_dir)
        if name == "evaluate":
            return ["evaluate", run_dir, "-o", "evaluate.nets=1", "-o", "evaluate.controls=false"]
        if name == "export":
            out = str(self.exported)
            return ["export", run_dir, "--format", "tensors", "--out", out, "--force"]
        if name == "report":
            return ["report", run_dir]
        if name == "new-plugin":
            return ["new-plugin", PLUGIN, "--kind", "labeler", "--out", str(self.folder)]
        return command(self.run_dir, self.problem)

    def run(self) -> None:
        """Kill the run several times, then let it through."""
        for number in range(CHAIN):
            if number % 2:
                self._kill_in_phase()
            else:
                self._kill_at_change("run")
            self.read()
        self.let_through("run")

    def after(self) -> None:
        """Kill commands on the finished run, then let them through."""
        for name in self.harness.draw.sample(AFTER, len(AFTER)):
            if name == "new-plugin" and self.has_plugin:
                continue
            if name == "export" and not self.has_export:
                self.let_through(name)
            for number in range(2):
                if name == "resume" and number:
                    self._kill_in_phase("evaluation")
                elif not (name == "new-plugin" and self.has_plugin):
                    self._kill_at_change(name)
                self.read()
            if not (name == "new-plugin" and self.has_plugin):
                self.let_through(name)

    def read(self) -> None:
        """Read everything as a user would."""
        self.seen = read_run_dir(self.run_dir, self.seen, self.folder / "read")
        self.page = read_page(self.run_dir / "report.html", self.page)
        self.has_export = read_export(self.exported, self.has_export)
        self.has_plugin = read_plugin(self.folder)

    def let_through(self, name: str) -> None:
        """Run a command to its end."""
        log, cache = self.folder / "log.txt", self.folder / "cache"
        if code := ended(start(self.arguments(name), cache, log, self.harness.shared)):
            raise LostError(f"{name} ended with {code}:\n{log.read_text()[-3000:]}")
        self.read()

    def _kill_at_change(self, name: str) -> None:
        harness, arguments = self.harness, self.arguments(name)
        if harness.changes.kill(name, arguments, self.folder, harness.shared, harness.draw):
            harness.counts[name] += 1

    def _kill_in_phase(self, wanted: str | None = None) -> None:
        aim, draw, shared = self.harness.aim, self.harness.draw, self.harness.shared
        target = wanted or aim.at(self._ahead(), draw)
        cache, log = self.folder / "cache", self.folder / "log.txt"
        pid = start(self.arguments("run"), cache, log, shared)
        often = target in ("step", "checkpoint", "artefact")
        skip = draw.randrange(3) if often else 0
        pause = draw.uniform(0, aim.lasts[target])
        killed = kill_in(pid, PHASES.index(target), pause, skip, shared)
        aim.learn(target, killed)
        if killed:
            self.harness.counts["experts" if killed == "experts" else "run"] += 1

    def _ahead(self) -> list[str]:
        """Return the phases that the run has yet to go through, as far as its files tell."""
        experts = len([*(self.folder / "cache" / "experts").glob("*/*.safetensors")])
        without = {"step", "validation"} if self.seen.step == STEPS else set()
        without |= {"validation"} if self.problem == "mtt" else {"experts"}
        without |= {"experts"} if experts == EXPERTS else set()
        return [name for name in PHASES if name not in without]


def command(run_dir: Path, problem: str) -> list[str]:
    """Return the command line that begins or resumes a run."""
    if (run_dir / "run.toml").exists():
        return ["run", "--resume", "--out", str(run_dir)]
    return ["run", "--out", str(run_dir), *COMMON, *PROBLEMS[problem]]


def whole_run(problem: str, folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Make an undisturbed run in this process, which is warm then; return result and settings."""
    folder.mkdir()
    os.environ["DISTILL_CACHE"] = str(folder / "cache")
    with (
        open(folder / "log.txt", "w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        be(command(folder / "run", problem))
    return (folder / "run" / DISTILLED).read_bytes(), dict(
        read_settings(folder / "run" / "run.toml")
    )


def sweep_kills(harness: Harness, folder: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """Kill drivers and cells of a sweep; yield the cell with seed 0 when it is done."""
    sweep = Sweep(folder, settings, harness.shared)
    for killed in sweep.kills(SWEEP_KILLS, harness.draw):
        harness.counts[killed] += 1
    yield sweep.cells[0]


def main_of_harness() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so long")
    given = parser.parse_args()
    torch.set_num_threads(1)
    harness = Harness(random.Random(given.seed))
    begin, runs, different = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="distill-kills-") as name:
        place = Path(name)
        whole = {problem: whole_run(problem, place / f"whole-{problem}") for problem in PROBLEMS}
        while (
            harness.counts.total() < given.kills and time.monotonic() - begin < 60 * given.minutes
        ):
            problem = list(PROBLEMS)[runs % 2]
            folder = place / f"{runs}"
            folder.mkdir()
            episode = Episode(harness, problem, folder)
            episode.run()
            episode.after()
            results = [episode.run_dir]
            if runs % SWEEP_EVERY == 0:
                (folder / "sweep").mkdir()
                results += sweep_kills(harness, folder / "sweep", whole[problem][1])
            runs += 1
            found = [(result / DISTILLED).read_bytes() for result in results]
            different += sum(each != whole[problem][0] for each in found)
            shutil.rmtree(folder)
            done = f"{harness.counts.total()} kills, {runs} runs, {different} different"
            print(f"{done}, {time.monotonic() - begin:.0f} s", flush=True)
    for label, count in sorted(harness.counts.items()):
        print(f"{label:<14} {count:>5}")
    phases = ", ".join(f"{label} {harness.aim.counts[label]}" for label in PHASES)
    print(
        f"{'all':<14} {harness.counts.total():>5} kills; {different} results differ; nothing lost"
    )
    print(f"of the run, aimed at phases: {phases}")
    raise SystemExit(1 if different else 0)


if __name__ == "__main__":
    main_of_harness()
