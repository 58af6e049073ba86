"""One run from its configuration to its verdict: what `distill run` does.

Assembles, distills with the outer loop, saves, judges and prints. With several processes only
rank 0 writes and prints. The first Ctrl-C or SIGTERM ends the run after the current step and saves
its state; a second Ctrl-C ends it at once, with the last checkpoint (`run/signals.py`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from distill_core.artefact.manifest import judged_manifest
from distill_core.artefact.saving import ArtefactWriter
from distill_core.commands.forecast import forecast
from distill_core.commands.judges import Judges, check_outline, further_judges
from distill_core.commands.run_end import Judged, finish
from distill_core.commands.run_facts import machine_line, print_facts
from distill_core.config.advice import in_range
from distill_core.config.discovery import collect_presets
from distill_core.config.run_config import RunConfig
from distill_core.data.identity import Identity
from distill_core.distributed.ranks import SINGLE_PROCESS, Ranks
from distill_core.evaluation.evaluate import Result
from distill_core.run.assemble import Assembly, assemble
from distill_core.run.checkpoint import data_of, state_to_resume
from distill_core.run.directory import begin, check_files, write_config
from distill_core.run.known_data import Check, only
from distill_core.run.lock import lock_run_dir
from distill_core.run.loop import OuterLoop
from distill_core.run.observers import Snapshots
from distill_core.run.progress import ConsoleProgress
from distill_core.run.recording import RunLog, earlier_commands, save_result
from distill_core.run.save_on_failure import save_on_failure
from distill_core.run.signals import Stop, stop_flag
from distill_core.run.start import Start
from distill_core.run.validation import check_validation, validation_accuracies
from distill_core.system.devices import pick_device
from distill_core.system.process import prepare
from distill_core.system.screen import plain_console, unseen_results
from registry import InputError, Plugins


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
    longest: float | None = None,
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
        longest: seconds on a CPU above which a run without a time limit is refused.

    Raises:
        Interrupted: a signal ended the run; the state is saved.
        RankLostError: another process ended; the state is saved if there was a step.
        ExplainedError: the message says what is wrong.
    """
    with in_range(config), stop_flag(ranks) as stop, ExitStack() as lock:
        console = plain_console(quiet=quiet or not ranks.is_main)
        unseen_results(f"the run goes on, and {run_dir} holds what it finds.")

        def tell(line: str) -> None:
            console.print(line, markup=False)

        collect_presets(plugins)  # two of one name are refused now, not when the page is written
        machine = prepare(config)
        ranks.limit(config.rank_timeout_minutes)
        start = Start(run_dir)
        early = run_dir.exists() and (resume or overwrite)
        still_ours = _nothing_to_check
        if ranks.is_main and early:
            still_ours = lock.enter_context(lock_run_dir(run_dir, tell))
            lock.enter_context(start.undone_if_refused())
            check_files(run_dir)
        going_on = resume and ranks.is_main
        state, known = _earlier(run_dir, config, plugins, tell) if going_on else ({}, None)
        state = ranks.broadcast(state)
        device = pick_device(ranks.device(config.device))
        console.print(machine_line(config, device, machine), markup=False)
        console.print(f"loading  {config.data_name}")
        check = only(known, run_dir, config)
        check_outline(config, plugins)
        assembly = _assemble(config, plugins, state, ranks, tell=tell, check=check)
        judges = further_judges(assembly, plugins)
        print_facts(console, assembly, ranks.size)
        if ranks.is_main:
            forecast(assembly, state, longest=longest, tell=tell)
        if ranks.is_main and not early:  # a run that is killed among its experts can be resumed
            still_ours = lock.enter_context(lock_run_dir(run_dir, tell))
            lock.enter_context(start.undone_if_refused())
            begin(run_dir, config, overwrite=overwrite)
        console.print(f"run      {run_dir}", markup=False)
        assembly.algorithm.prepare(tell)
        commands = earlier_commands(run_dir) if going_on else []
        commands += [list(command)] if command else []
        loop, save = _loop(
            plugins, assembly, run_dir, ranks, still_ours=still_ours, commands=commands
        )
        if state:
            loop.load_state_dict(state)
            _tell_place(loop, tell)
        ranks.broadcast(ranks.gather(None))  # nothing is changed or deleted before all are ready
        if ranks.is_main and early:
            _take_over(run_dir, config, start, resume=resume)
        log = RunLog(run_dir, loop.step) if ranks.is_main else None
        try:
            return _distill(
                console, plugins, loop, log=log, stop=stop, save=save, judges=judges, judged=judged
            )
        finally:
            if log:
                log.board.close()


def _earlier(
    run_dir: Path, config: RunConfig, plugins: Plugins, tell: Callable[[str], None]
) -> tuple[dict[str, Any], Identity | None]:
    """Return the state from which a run goes on, and the data that it has used."""
    state = state_to_resume(run_dir, config, tell, plugins=plugins)
    return state, data_of(run_dir, lambda line: tell(f"resume   {line}"), state=state)


def _tell_place(loop: OuterLoop, tell: Callable[[str], None]) -> None:
    """Say where a run goes on; of one that is complete and has its results, how to read these."""
    steps, late = loop.assembly.steps, loop.out_of_time()
    tell(f"resume   {_place(loop.step, steps, late=late)}")
    complete = late or loop.step >= steps
    if complete and judged_manifest(loop.run_dir).get("outer_steps") == loop.step:
        tell(
            "         it has been judged before: Ctrl-C keeps that judgement, and `distill compare "
            f"{shlex.quote(str(loop.run_dir))}` prints it"
        )


def _place(step: int, steps: int, *, late: bool = False) -> str:
    """Say where a run goes on; `late`: its time is spent.

    >>> _place(120, 3000), _place(30, 30)
    ('goes on after outer step 120 of 3,000', 'all 30 outer steps are made; their result is judged')
    >>> _place(4, 3)
    '4 outer steps are made, more than the 3 of --steps; their result is judged'
    >>> _place(120, 300, late=True)
    'the time of --minutes is spent, after outer step 120; the result is judged'
    """
    if step > steps:
        return (
            f"{step:,} outer steps are made, more than the {steps:,} of --steps; "
            "their result is judged"
        )
    if step == steps:
        return f"all {steps:,} outer steps are made; their result is judged"
    if late:
        return f"the time of --minutes is spent, after outer step {step:,}; the result is judged"
    return f"goes on after outer step {step:,} of {steps:,}"


def _take_over(run_dir: Path, config: RunConfig, start: Start, *, resume: bool) -> None:
    """Change what an earlier run has left: go on with it, or delete it."""
    if resume:
        write_config(run_dir, config)
        start.resumed()
    else:
        begin(run_dir, config, overwrite=True)
        start.emptied()


def _nothing_to_check() -> None:
    """Rank 0 alone has the lock, and writes."""


def _loop(
    plugins: Plugins,
    assembly: Assembly,
    run_dir: Path,
    ranks: Ranks,
    *,
    still_ours: Callable[[], None],
    commands: Sequence[Sequence[str]],
) -> tuple[OuterLoop, Callable[..., None]]:
    """Return the outer loop, without observers, and the function that saves its artefact."""
    writer = ArtefactWriter(run_dir, assembly.real, before_save=still_ours)
    save = partial(save_result, plugins, writer, commands=commands)
    loop = OuterLoop(
        assembly,
        run_dir,
        validate=lambda: validation_accuracies(loop.result, ranks),
        before_save=still_ours,
        on_checkpoint=lambda: save(loop),
        ranks=ranks,
    )
    return loop, save


def _distill(
    console: Console,
    plugins: Plugins,
    loop: OuterLoop,
    *,
    log: RunLog | None,
    stop: Stop,
    save: Callable[..., None],
    judges: Judges,
    judged: Judged,
) -> dict[str, Result]:
    assembly, config, ranks = loop.assembly, loop.assembly.config, loop.ranks
    left = None if config.minutes is None else max(config.minutes - loop.seconds / 60, 0.0)
    progress = ConsoleProgress(console, steps=assembly.steps, step=loop.step, minutes=left)
    with progress:
        if log:
            snapshots = Snapshots(
                loop.run_dir, lambda: loop.result, step=loop.step, seconds=loop.seconds
            )
            loop.observers = [*log.observers, snapshots, progress]
            snapshots.save_if_due(loop.step)
        with stop.steps(), save_on_failure(loop):
            complete = loop.run(stop) and not any(ranks.any(stop()))
    if not complete:
        raise Interrupted
    with save_on_failure(loop, judging=True):
        return finish(console, plugins, loop, log=log, save=save, judges=judges, judged=judged)


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
    ranks.broadcast(ranks.gather(None))  # nothing is written before all are ready
    return assembly
