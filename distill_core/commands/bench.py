"""What an outer step of each preset costs on this machine: what `distill bench` does.

Nothing is downloaded: real images are noise of the dataset's shape, which its method `outline`
returns. Seconds and memory are the algorithm's own prediction from short measured steps.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError

import torch

from distill_core.config.discovery import discover
from distill_core.config.run_config import RunConfig, resolve
from distill_core.config.settings import merge
from distill_core.contracts.algorithm import Estimate
from distill_core.contracts.streams import Streams
from distill_core.engine.memory_trial import MemoryTrial
from distill_core.hookspecs import Preset
from distill_core.run.assemble import Assembly, assemble
from distill_core.run.plan import Plan
from distill_core.run.rehearsal import on_noise
from distill_core.system.arithmetic import inner_precision
from distill_core.system.cards import card_of
from distill_core.system.cores import count_cores
from distill_core.system.out_of_memory import OutOfMemory, is_out_of_memory, out_of_memory
from distill_core.system.process import prepare
from registry import ExplainedError, InputError, Plugins

PATIENCE = 300.0  # seconds that processes wait until all are ready


@dataclass(frozen=True)
class Line:
    """The cost of one outer step.

    Attributes:
        preset: which configuration.
        device: name of the card, or "cpu".
        path: the requested `engine.path`.
        engine: the engine that was chosen.
        threads: of the process.
        seconds: of an outer step, extrapolated.
        phases: parts of that, by name.
        memory: bytes that the step needs beyond process and data, extrapolated.
        process: bytes in use before it, by process and networks, without data.
        processes: how many processes of one thread were also tried; 0: none.
        speed_up: outer steps per second of these together, relative to this process.
        measured: what was run.
    """

    preset: str
    device: str
    path: str
    engine: str
    threads: int
    seconds: float
    phases: Mapping[str, float]
    memory: int
    process: int
    processes: int
    speed_up: float
    measured: str


def selection(presets: Mapping[str, Preset], plugins: Plugins) -> list[str]:
    """Return the first preset of each dataset, network and algorithm's options that is `benched`.

    Presets that differ in the poster's size or the labels alone cost about the same.
    """
    found: dict[str, str] = {}
    for name, preset in presets.items():
        if not preset.benched:
            continue
        config = resolve(preset.config, plugins)
        parts = [config.component(kind) for kind in ("dataset", "backbone", "algo")]
        found.setdefault(repr(parts), name)
    return list(found.values())


def bench(
    presets: Mapping[str, Preset],
    plugins: Plugins,
    paths: Iterable[str],
    *,
    device: str | None = None,
    processes: bool = True,
) -> Iterator[Line | ExplainedError]:
    """Yield the cost of every preset by every path, or why it cannot be measured.

    Args:
        presets: which, by name.
        plugins: what is installed.
        paths: values of `engine.path`; one that gives the same engine as an earlier one is left
            out.
        device: replaces the device of the presets.
        processes: on the CPU, also try one process of one thread per core, with the first path.
    """
    place = {"device": device} if device else {}
    for name, preset in presets.items():
        engines: set[str] = set()
        for path in paths:
            config = resolve(merge(preset.config, {"engine": {"path": path}, **place}), plugins)
            try:
                line = measure(name, config, plugins, processes=processes and not engines)
            except ExplainedError as error:
                yield error
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                yield _too_large(name, error)
                break
            if line.engine not in engines:
                engines.add(line.engine)
                yield line


def measure(name: str, config: RunConfig, plugins: Plugins, *, processes: bool = False) -> Line:
    """Return the cost of an outer step of a configuration.

    Raises:
        InputError: the dataset has no outline, or the algorithm cannot predict its cost.
    """
    machine = prepare(config)
    assembly = assemble_on_noise(config, plugins)
    trial = MemoryTrial(assembly.device)
    estimate, cores = _estimate(assembly, trial), count_cores()
    number = cores if processes and cores > 1 and assembly.device.type == "cpu" else 0
    process = trial.in_use()
    together, measured = 0.0, estimate.measured
    try:
        together = rate_of_processes(config, number) if number else 0.0
    except (BrokenProcessPool, BrokenBarrierError):
        measured += f" Of {number} processes at once one ended, perhaps for want of memory."
        number = 0
    return Line(
        preset=name,
        device=_named(assembly.device),
        path=config.engine.path,
        engine=assembly.engine.how(),
        threads=machine.threads,
        seconds=estimate.seconds,
        phases=estimate.phases,
        memory=estimate.memory,
        process=process,
        processes=number,
        speed_up=together * estimate.seconds,
        measured=measured,
    )


def assemble_on_noise(config: RunConfig, plugins: Plugins) -> Assembly:
    """Assemble a run with noise for real images and classes in the order of their numbers.

    Raises:
        InputError: the dataset has no outline.
    """
    # Not the orderer's classes: it may want files, and positions cost the same whatever the class.
    found = on_noise(Plan.of(config, plugins))
    if found is None:
        raise InputError(
            f"dataset '{config.dataset}' has no outline: its shape needs its files.",
            expected="a dataset with a method `outline`.",
            next="`distill run --dry-run` predicts the cost with its files.",
        )
    real, class_grid = found
    return assemble(config, plugins, class_grid=class_grid, real=real, start=False)


def rate_of_processes(config: RunConfig, number: int) -> float:
    """Return outer steps per second of processes of one thread that work at the same time."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(number)
    single = config.model_copy(update={"threads": 1})
    with ProcessPoolExecutor(number, spawn, _meet, (barrier,)) as pool:
        seconds = list(pool.map(_seconds, [single] * number))
    return sum(1 / each for each in seconds)


_barrier: Barrier | None = None


def _meet(barrier: Barrier) -> None:
    """Keep the barrier of the processes; it cannot be sent later."""
    global _barrier  # noqa: PLW0603
    _barrier = barrier


def _seconds(config: RunConfig) -> float:
    assert _barrier is not None
    prepare(config)
    assembly = assemble_on_noise(config, discover())
    _barrier.wait(PATIENCE)
    return _estimate(assembly, MemoryTrial(assembly.device)).seconds


def _estimate(assembly: Assembly, trial: MemoryTrial) -> Estimate:
    with inner_precision(assembly.config):
        estimate = trial.run(
            lambda: assembly.algorithm.estimate(assembly.synthetic, rng=Streams(0))
        )
    if estimate is None:
        raise InputError(
            f"algorithm '{assembly.config.algo}' cannot predict its cost.",
            expected="an algorithm that can.",
            next="run a few outer steps; metrics.jsonl has their seconds.",
        )
    return estimate


def _named(device: torch.device) -> str:
    return card_of(device).name if device.type == "cuda" else str(device)


def _too_large(name: str, error: BaseException) -> OutOfMemory:
    return out_of_memory(
        error,
        expected=f"room for an outer step of preset '{name}'.",
        next=f"`distill run --preset {name} --max-memory` chooses what fits.",
    )
