"""What each of two processes does for `distributed/test_group.py`; results go into files.

One pair of processes for all tests.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed import FileStore

from distill_core.cli.errors import Display
from distill_core.cli.processes import as_rank
from distill_core.commands.run import run
from distill_core.contracts.algorithm import Task
from distill_core.contracts.data import Split
from distill_core.contracts.streams import Streams
from distill_core.distributed.group import Group
from distill_core.distributed.ranks import SINGLE_PROCESS, RankLostError, Ranks
from distill_core.evaluation.judge import judge
from distill_core.run.assemble import Assembly, assemble
from distill_core.run.checkpoint import load_checkpoint
from distill_core.run.loop import OuterLoop
from distill_core.run.validation import candidate_of, evaluator_of, validation_accuracies
from distill_core.system.state_tree import pack
from tests.distill_core.small_run import installed, small_assembly, small_config

RUN: dict[str, Any] = {"steps": 5, "options": {"algo": {"curriculum": "window"}}}
JUDGING: dict[str, Any] = {"evaluate": {"nets": 3, "every_nets": 3, "full_nets": 1}}


def half(real_train: Split, rank: int) -> Split:
    part = slice(rank, None, 2)
    return Split(real_train.images[part], real_train.labels[part])


def hypergradient(part: int | None, ranks: Ranks) -> dict[str, torch.Tensor]:
    """One outer step in float64 on a half or all of the real data; one trajectory for all."""
    options = {"clip": False, "augment": "none", "curriculum": "fixed", "real_batch": 30}
    assembly = small_assembly(options={"algo": options})
    synthetic = assembly.synthetic.double()
    train = assembly.real.train
    train = Split(train.images.double(), train.labels)
    real = replace(assembly.real, train=train if part is None else half(train, part))
    task = Task(real, lambda generator: assembly.make_backbone(generator).double(), assembly.engine)
    algorithm = installed()["algorithm"].create(
        "ratbptt", assembly.config.options["algo"], task=task
    )
    algorithm.outer_step(synthetic, step=0, rng=Streams(7))
    groups = synthetic.groups()
    ranks.mean_gradients(p for group in groups.values() for p in group)
    return {name: group[0].grad for name, group in groups.items() if group[0].grad is not None}


def finished(loop: OuterLoop) -> dict[str, Any]:
    return {
        "synthetic": dict(loop.assembly.synthetic.state_dict()),
        "optimizer": loop.optimizer.state_dict(),
        "streams": loop.rng.state_dict(),
        "algorithm": loop.assembly.algorithm.state_dict(),
    }


def resumed(folder: Path, ranks: Ranks) -> OuterLoop:
    config = small_config(**RUN)
    state = load_checkpoint(folder, config)
    assembly = assemble(config, installed(), class_grid=state["class_grid"], notes=state["notes"])
    loop = OuterLoop(assembly, folder, ranks=ranks)
    loop.load_state_dict(state)
    return loop


class Failing:
    """The run's algorithm, which one rank cannot carry on."""

    def __init__(self, assembly: Assembly) -> None:
        self.algorithm = assembly.algorithm

    def __getattr__(self, name: str) -> Any:
        return getattr(self.algorithm, name)

    def outer_step(self, synthetic: Any, *, step: int, rng: Streams) -> Any:
        if step == 2:
            raise ValueError("out of luck")
        return self.algorithm.outer_step(synthetic, step=step, rng=rng)


def messages(ranks: Ranks) -> dict[str, Any]:
    rank = ranks.rank
    parameters = [torch.nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(3)]
    parameters[0].grad = torch.tensor([1.0, 2.0], dtype=torch.float64) * (rank + 1)
    if rank == 0:
        parameters[1].grad = torch.ones(2, dtype=torch.float64)
    ranks.mean_gradients(parameters)
    return {
        "means": [parameter.grad for parameter in parameters],
        "any": list(ranks.any(False, rank == 1, True)),
        "gathered": ranks.gather({"rank": rank, "many": torch.arange(3 + 5 * rank)}),
        "told": ranks.broadcast({"from": rank} if rank == 0 else None),
        "shares": [list(ranks.share(count)) for count in (0, 1, 5)],
    }


def runs(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """A run without a break, the same in two parts, and one that is out of time on rank 1."""
    found: dict[str, Any] = {}
    loop = OuterLoop(small_assembly(**RUN), folder / "whole", ranks=ranks)
    assert loop.run()
    found["straight"] = finished(loop)

    # Only rank 1 is told to stop.
    loop = OuterLoop(small_assembly(**RUN), folder / "parts", ranks=ranks)
    found["complete"] = loop.run(stop=lambda: ranks.rank == 1 and loop.step == 2)
    found["stopped at"] = loop.step
    found["after two"] = finished(loop)
    ranks.any(False)  # rank 0 has written
    again = resumed(folder / "parts", ranks)
    assert again.run()
    found["resumed"] = finished(again)

    limited = small_assembly(**{**RUN, "minutes": 9.0 if ranks.is_main else 1e-9})
    loop = OuterLoop(limited, folder / "time", ranks=ranks)
    found["in time"] = loop.run()
    found["steps in time"] = loop.step
    return found


def judged(ranks: Ranks) -> dict[str, Any]:
    assembly = small_assembly(**JUDGING)
    told: list[tuple[str, int]] = []
    evaluator = evaluator_of(
        assembly, ranks=ranks, after_net=lambda name, net, value: told.append((name, net))
    )
    results = judge(candidate_of(assembly), evaluator, assembly.config.evaluate)
    return {
        "judged": {name: [*r.accuracies] for name, r in results.items()},
        "notes": {name: [*r.notes] for name, r in results.items()},
        "curves": {
            name: {step: [*v] for step, v in r.checkpoints.items()} for name, r in results.items()
        },
        "told nets": told,
        "validation": [*validation_accuracies(assembly, ranks)],
    }


def lost(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """Rank 1 fails in step 3, which ends the group."""
    assembly = small_assembly(**RUN)
    if not ranks.is_main:
        assembly = replace(assembly, algorithm=Failing(assembly))
    loop = OuterLoop(assembly, folder / "lost", ranks=ranks)
    found: dict[str, Any] = {}
    begin = time.monotonic()
    try:
        loop.run()
    except RankLostError as error:
        found["lost"] = str(error)
        loop.rescue()
        found["rescued"] = loop.saved_step
    except ValueError as error:
        ranks.hand_over(error)
    found["code"] = ranks.end(3 if ranks.is_main else 1)
    found["seconds"] = time.monotonic() - begin
    return found


def gone_on(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """The finished run goes on for a step, from what rank 0 reads, and is judged."""
    config = small_config(**{**RUN, "steps": 6})
    results = run(config, installed(), folder / "whole", resume=True, overwrite=False, ranks=ranks)
    return {"gone on": {name: [*each.accuracies] for name, each in results.items()}}


def mistaken(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """A run that rank 0 refuses while the others wait for it."""
    config = small_config(ipc=None, options={"repr": {"size": "6x20"}})

    def call() -> int:
        run(config, installed(), folder / "never", resume=False, overwrite=False, ranks=ranks)
        return 0

    return {"mistake": as_rank(ranks, call, Display())}


def main(folder: Path, rank: int) -> None:
    """Do everything as one of the two."""
    warnings.simplefilter("error")
    ranks = Group(FileStore(str(folder / "store"), 2), rank=rank, size=2)
    ranks.limit(1.0)
    found = messages(ranks)
    found["averaged"] = hypergradient(rank, ranks)
    if rank == 0:
        found["whole"] = hypergradient(None, SINGLE_PROCESS)
    found |= runs(folder, ranks)
    found |= judged(ranks)
    found |= lost(folder, ranks)
    ranks = Group(FileStore(str(folder / "store again"), 2), rank=rank, size=2)
    found |= gone_on(folder, ranks)
    found |= mistaken(folder, ranks)
    (folder / f"found{rank}").write_bytes(pack(found))
