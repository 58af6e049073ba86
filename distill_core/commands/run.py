"""One run from its configuration to its verdict: what `distill run` does.

Assembles, distills with the outer loop, saves, judges and prints. With several processes only
rank 0 writes and prints. The first Ctrl-C or SIGTERM ends the run after the current step and saves
its state; a second Ctrl-C ends it at once, with the last checkpoint (`run/signals.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from distill_core.artefact.saving import ArtefactWriter
from distill_core.commands.evaluate import judge_again
from distill_core.commands.judges import Judges, check_outline, further_judges
from distill_core.commands.run_facts import machine_line, print_facts
from distill_core.config.advice import in_range, ways_to
from distill_core.config.discovery import collect_presets
from distill_core.config.run_config import RunConfig
from distill_core.distributed.ranks import SINGLE_PROCESS, Ranks
from distill_core.evaluation.evaluate import Result
from distill_core.evaluation.judge import NAMES, judge, table
from distill_core.report.page import report_of
from distill_core.run.assemble import Assembly, assemble
from distill_core.run.checkpoint import state_to_resume
from distill_core.run.course import Notice, notices
from distill_core.run.directory import begin, check_files, write_config
from distill_core.run.known_data import Check, data_to_resume, only
from distill_core.run.lock import lock_run_dir
from distill_core.run.loop import OuterLoop
from distill_core.run.observers import Snapshots
from distill_core.run.progress import ConsoleProgress
from distill_core.run.recording import RunLog, earlier_commands, save_result
from distill_core.run.save_on_failure import save_on_failure
from distill_core.run.signals import Stop, stop_flag
from distill_core.run.validation import (
    candidate_of,
    check_validation,
    evaluator_of,
    validation_accuracies,
)
from distill_core.system.devices import pick_device
from distill_core.system.memory import peak_memory
from distill_core.system.process import prepare
from distill_core.system.screen import kept, plain_console
from distill_core.system.units import duration
from registry import InputError, Plugins

Judged = Callable[[str, dict[str, Result]], None]


class Interrupted(Exception):
    """The user ended the run; its state is saved."""


def run(
    config: RunConfig,
    plugins: Plugins,
    run_dir: Path,
    *,
    resume: bool,
    overwrite: bool,
    ranks: Ranks = SINGLE_PROCESS,
    quiet: bool = False,
    command: Sequence[str] = (),
    judged: Judged = lambda row, results: None,
) -> dict[str, Result]:
    """Distill, save and judge; return the results by name.

    Args:
        config: the resolved configuration.
        plugins: what is installed.
        run_dir: the run directory; only rank 0 reads or writes it.
        resume: continue the run in it.
        overwrite: delete the run in it.
        ranks: the processes of the run; each calls this.
        quiet: print nothing.
        command: the words of the command line, for the record; empty from Python.
        judged: called with the name and the results of each further network that judges.

    Raises:
        Interrupted: a signal ended the run; the state is saved.
        RankLostError: another process ended; the state is saved if there was a step.
        ExplainedError: the message says what is wrong.
    """
    with in_range(config), stop_flag(ranks) as stop, ExitStack() as lock:
        console = plain_console(quiet=quiet or not ranks.is_main)
        kept(f"the run goes on, and {run_dir} holds what it finds.")

        def tell(line: str) -> None:
            console.print(line, markup=False)

        collect_presets(plugins)  # two of one name are refused now, not when the page is written
        machine = prepare(config)
        ranks.limit(config.rank_timeout_minutes)
        early = ranks.is_main and run_dir.exists() and (resume or overwrite)
        still_ours = _nothing_to_check
        if early:
            still_ours = lock.enter_context(lock_run_dir(run_dir, tell))
            check_files(run_dir)
        state = (
            state_to_resume(run_dir, config, tell, plugins=plugins)
            if resume and ranks.is_main
            else {}
        )
        known = data_to_resume(run_dir, state, tell) if ranks.is_main else None
        state = ranks.broadcast(state)
        device = pick_device(ranks.device(config.device))
        console.print(machine_line(config, device, machine), markup=False)
        console.print(f"loading  {config.dataset}")
        check = only(known, run_dir, config)
        check_outline(config, plugins)
        assembly = _assemble(config, plugins, state, ranks, tell=tell, check=check)
        judges = further_judges(assembly, plugins)
        print_facts(console, assembly, ranks.size)
        if ranks.is_main:
            if resume:
                write_config(run_dir, config)
            else:
                if not early:
                    still_ours = lock.enter_context(lock_run_dir(run_dir, tell))
                begin(run_dir, config, overwrite=overwrite)
        console.print(f"run      {run_dir}", markup=False)
        step = int(state.get("step", 0))
        commands = earlier_commands(run_dir) if resume and ranks.is_main else []
        log = RunLog(run_dir, step) if ranks.is_main else None
        try:
            return _distill(
                console,
                plugins,
                assembly,
                judges=judges,
                judged=judged,
                run_dir=run_dir,
                state=state,
                log=log,
                stop=stop,
                ranks=ranks,
                still_ours=still_ours,
                commands=[*commands, command] if command else commands,
            )
        finally:
            if log:
                log.board.close()


def _nothing_to_check() -> None:
    """Rank 0 alone has the lock, and writes."""


def _distill(
    console: Console,
    plugins: Plugins,
    assembly: Assembly,
    *,
    judges: Judges,
    judged: Judged,
    run_dir: Path,
    state: dict[str, Any],
    log: RunLog | None,
    stop: Stop,
    ranks: Ranks,
    still_ours: Callable[[], None],
    commands: Sequence[Sequence[str]],
) -> dict[str, Result]:
    config, step = assembly.config, int(state.get("step", 0))
    assembly.algorithm.prepare(lambda line: console.print(line, markup=False))
    spent = float(state.get("seconds", 0.0)) / 60
    left = None if config.minutes is None else max(config.minutes - spent, 0.0)
    snapshots = (
        Snapshots(run_dir, lambda: loop.result, step=step, seconds=60 * spent)
        if ranks.is_main
        else None
    )
    writer = ArtefactWriter(run_dir, assembly.real, before_save=still_ours)
    save = partial(save_result, plugins, writer, commands=commands)
    with ConsoleProgress(console, steps=assembly.steps, step=step, minutes=left) as progress:
        loop = OuterLoop(
            assembly,
            run_dir,
            observers=[*log.observers, snapshots, progress] if log and snapshots else (),
            validate=lambda: validation_accuracies(loop.result, ranks),
            before_save=still_ours,
            on_checkpoint=lambda: save(loop),
            ranks=ranks,
        )
        if state:
            loop.load_state_dict(state)
        if snapshots:
            snapshots.save_if_due(loop.step)
        with stop.steps(), save_on_failure(loop):
            complete = loop.run(stop) and not any(ranks.any(stop()))
    if not complete:
        raise Interrupted
    with save_on_failure(loop, judging=True):
        return _finish(
            console, plugins, run_dir, loop=loop, log=log, save=save, judges=judges, judged=judged
        )


def _assemble(
    config: RunConfig,
    plugins: Plugins,
    state: dict[str, Any],
    ranks: Ranks,
    *,
    tell: Callable[[str], None],
    check: Check,
) -> Assembly:
    """Assemble on rank 0, which may have to fill the cache, and then on the others.

    They use its class grid, since an orderer may find another one on another machine, and, when
    the loop begins, its starting pixels and labels.

    Raises:
        InputError: `check` refuses the data of rank 0, a rank has others than rank 0, or the parts
            do not fit.
    """
    config = config.model_copy(update={"device": ranks.device(config.device)})
    order = {"class_grid": state.get("class_grid"), "notes": state.get("notes")}
    if ranks.is_main:
        assembly = assemble(config, plugins, **order, start=not state, tell=tell, check=check)
        check_validation(assembly)
        order = {"class_grid": assembly.placement.class_grid, "notes": assembly.notes}
        ranks.broadcast({**order, "data": assembly.real.fingerprint})
    else:
        order = ranks.broadcast(None)
        fingerprint = order.pop("data")
        assembly = assemble(config, plugins, **order, start=False)
        if assembly.real.fingerprint != fingerprint:
            raise InputError(
                f"rank {ranks.rank} has other data than rank 0: their fingerprint is "
                f"{assembly.real.fingerprint[:12]}...",
                expected=f"{fingerprint[:12]}..., the same files for every process.",
                next="copy the data files of one machine to all.",
            )
    ranks.broadcast(ranks.gather(None))  # nothing is written or deleted before all are ready
    return assembly


def _finish(
    console: Console,
    plugins: Plugins,
    run_dir: Path,
    *,
    loop: OuterLoop,
    log: RunLog | None,
    save: Callable[..., None],
    judges: Judges,
    judged: Judged,
) -> dict[str, Result]:
    assembly = loop.result
    config = assembly.config
    if config.evaluate.select == "best":
        loop.use_best()  # the last checkpoint's artefact holds the last state
        save(loop)
    peak = peak_memory(assembly.device)
    console.print(f"distilled in {loop.step} outer steps and {duration(loop.seconds)}")

    def after_net(name: str, net: int, accuracy: float) -> None:
        found = NAMES.get(name, name)
        console.print(f"         {found}: network {net + 1} {100 * accuracy:.2f} %", markup=False)

    candidate = candidate_of(assembly, step=loop.step)
    evaluator = evaluator_of(assembly, ranks=loop.ranks, after_net=after_net)
    results = judge(candidate, evaluator, config.evaluate)
    save(loop, results=results, peak=peak)  # before anything else can fail
    odd: Sequence[Notice] = ()
    if log:
        log.results(loop, results)
        odd = notices(
            log.metrics.lines(),
            results,
            learned=bool(loop.groups),
            bounds=ways_to("bounds_spikes", config),
        )
    if odd:
        save(loop, results=results, peak=peak, notices=odd)
    console.print(table(results), markup=False)
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
    console.print(
        f"saved    {run_dir} (poster.png, distilled.safetensors, metrics.jsonl)", markup=False
    )
    return results
