"""The end of a run: its result is judged, saved with the verdict, and printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Console

from distill_core.artefact.contents import METRICS, POSTER_GRID
from distill_core.artefact.result_file import result_file
from distill_core.commands.evaluate import judge_again
from distill_core.commands.judges import Judges
from distill_core.commands.judging_pace import Pace
from distill_core.config.advice import ways_to
from distill_core.config.discovery import collect_presets
from distill_core.evaluation.evaluate import Result
from distill_core.evaluation.judge import NAMES, judge, table
from distill_core.report.page import report_of
from distill_core.run.loop import OuterLoop
from distill_core.run.notices import Notice, notices
from distill_core.run.recording import RunLog
from distill_core.run.validation import candidate_of, evaluator_of
from distill_core.system.memory import peak_memory
from distill_core.system.process import release_memory
from distill_core.system.units import counted, duration
from distill_core.system.waiting import told_if_slow
from registry import Plugins

Judged = Callable[[str, dict[str, Result]], None]


def finish(
    console: Console,
    plugins: Plugins,
    loop: OuterLoop,
    *,
    log: RunLog | None,
    save: Callable[..., None],
    judges: Judges,
    judged: Judged,
) -> dict[str, Result]:
    """Judge a complete run, save its results and print them.

    Args:
        console: for what is printed.
        plugins: what is installed.
        loop: after its last step.
        log: what rank 0 writes; None on other ranks.
        save: saves the artefact.
        judges: further networks.
        judged: called with the name and the results of each of these.
    """
    assembly, run_dir = loop.result, loop.run_dir
    config = assembly.config
    if config.evaluate.select == "best":
        loop.use_best()  # the last checkpoint's artefact holds the last state
        save(loop)
        if loop.groups and not loop.best:
            console.print(
                f"select   the last state is judged, and not the best one: with evaluate.every = "
                f"{config.evaluate.every} none of {counted(loop.step, 'outer step')} was validated"
            )
    peak = peak_memory(assembly.device)
    release_memory()  # of the outer steps
    nets = config.evaluate.nets
    whose = "their" if nets > 1 else "its"
    beside = f" and {whose} controls" if config.evaluate.controls else ""
    console.print(f"distilled in {counted(loop.step, 'outer step')} and {duration(loop.seconds)}")
    console.print(f"judging  by {counted(nets, 'fresh network')}{beside}")

    def after_net(name: str, net: int, accuracy: float) -> None:
        found = NAMES.get(name, name)
        console.print(f"         {found}: network {net + 1} {100 * accuracy:.2f} %", markup=False)

    candidate = candidate_of(assembly, step=loop.step)
    tell = partial(console.print, markup=False)
    pace = Pace(tell, after_net, loop.ranks.size)
    pace.begin("judging  ", candidate, config.evaluate)
    evaluator = evaluator_of(assembly, ranks=loop.ranks, after_net=pace.after_net)
    with told_if_slow(tell, "judging  trains and tests networks"):
        results = judge(candidate, evaluator, config.evaluate)
    save(loop, results=results, peak=peak)  # before anything else can fail
    odd: Sequence[Notice] = ()
    if log:
        log.results(loop, results)
        odd = notices(
            log.metrics.lines(),
            results,
            learned=bool(loop.groups),
            bounds={
                "data": ways_to("bounds_spikes", config),
                "labels": ways_to("bounds_label_spikes", config),
            },
        )
    if odd:
        save(loop, results=results, peak=peak, notices=odd)
    console.print(table(results), markup=False)
    with told_if_slow(tell, "judging  trains and tests the further networks"):
        others = judge_again(
            run_dir, judges, candidate, assembly.real, ranks=loop.ranks, after_net=after_net
        )
    for row, found in others.items():
        judged(row, found)
        console.print(f"{row}: {table(found)}", markup=False)
    for notice in odd:
        console.print(f"notice   {notice}", markup=False)
    if loop.ranks.is_main:
        console.print(report_of(run_dir, collect_presets(plugins)), markup=False)
    name = result_file(run_dir).name
    console.print(f"saved    {run_dir} ({POSTER_GRID}, {name}, {METRICS})", markup=False)
    return results
