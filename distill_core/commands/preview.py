"""The settings and the predicted cost of a run: what `distill run --dry-run` prints."""

from __future__ import annotations

import sys
from functools import partial

from distill_core.artefact.stored import looks_at_images
from distill_core.commands.judges import check_outline, further_judges
from distill_core.commands.run_facts import machine_line, print_facts
from distill_core.config.advice import in_range
from distill_core.config.run_config import RunConfig, to_toml
from distill_core.contracts.algorithm import Estimate
from distill_core.contracts.streams import Streams
from distill_core.engine.memory_trial import MemoryTrial
from distill_core.run.assemble import assemble
from distill_core.run.progress import predicted_course
from distill_core.run.validation import check_validation
from distill_core.run.within_memory import kept_between_steps
from distill_core.system.arithmetic import inner_precision
from distill_core.system.cards import room
from distill_core.system.memory import context_memory, memory_in_use
from distill_core.system.process import prepare
from distill_core.system.screen import plain_console
from distill_core.system.units import size_text
from registry import Plugins


def preview(config: RunConfig, plugins: Plugins, processes: int = 1) -> None:
    """Print the resolved configuration, the budget and the cost of an outer step.

    Args:
        config: the resolved configuration.
        plugins: what is installed.
        processes: how many would share the run; this one measures the cost of each.

    Raises:
        ExplainedError: the message says what is wrong.
    """
    with in_range(config):
        _preview(config, plugins, processes)


def _preview(config: RunConfig, plugins: Plugins, processes: int) -> None:
    console = plain_console()
    tell = partial(print, file=sys.stderr, flush=True)  # loading a large dataset takes minutes
    machine = prepare(config, processes)
    check_outline(config, plugins)
    tell(f"loading  {config.data_name}")
    assembly = assemble(config, plugins, start=False, tell=tell)
    check_validation(assembly)
    further_judges(assembly, plugins)
    console.print(to_toml(config), markup=False)
    print_facts(console, assembly, processes)
    if looks_at_images(assembly.synthetic.labeler):
        console.print(
            f"labels   labeler '{config.labeler}' looks at the starting images when the run "
            "starts; here are stand-ins"
        )
    console.print(machine_line(config, assembly.device, machine), markup=False)
    if not assembly.steps:
        console.print(f"cost     no outer steps: algorithm '{config.algo}' learns nothing")
        return
    averages = assembly.ema is not None
    kept = kept_between_steps(config, assembly.synthetic, averages=averages)
    trial = MemoryTrial(assembly.device, kept)
    with inner_precision(config):
        estimate = trial.run(
            lambda: assembly.algorithm.estimate(assembly.synthetic, rng=Streams(config.seed))
        )
    if estimate is None:
        console.print(f"cost     algorithm '{config.algo}' cannot predict it")
        return
    course = predicted_course(config.steps, config.minutes, seconds=estimate.seconds)
    each = "" if processes == 1 else f" in each of {processes} processes"
    console.print(
        f"cost     one outer step: {estimate.seconds:.2f} s and {estimate.memory / 2**20:.0f} "
        f"MiB beyond the data{each}; {course}\n"
        f"         ({estimate.measured})\n"
        f"memory   {memory_line(trial, estimate)}{each}"
    )


def memory_line(trial: MemoryTrial, estimate: Estimate) -> str:
    """Return a line on the memory of a process between outer steps and at the peak of one.

    Args:
        trial: ran the trial steps.
        estimate: its result.
    """
    device, in_use = trial.device, memory_in_use(trial.device) + trial.kept
    peak = trial.in_use() + estimate.memory
    between = f"{size_text(in_use)} in use between steps"
    predicted = f"{size_text(peak)} predicted at the peak of an outer step"
    if device.type != "cuda":
        return f"{between}, {predicted}"
    _, total = room(device)
    return (
        f"{between} ({size_text(context_memory(device))} of it the CUDA context), {predicted} "
        f"({size_text(trial.scratch)} of it scratch), of {size_text(total)} on the card"
        f"{': too much, see --max-memory' if peak > total else ''}"
    )
