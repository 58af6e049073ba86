"""`distill run`: from the command line to a finished run directory."""

from __future__ import annotations

import os
import shlex
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill_core.cli.choices import (
    base_settings,
    own_settings,
    packages_of,
    with_settings,
    with_sources,
)
from distill_core.cli.errors import INTERRUPTED, Display
from distill_core.cli.folded import FoldedCommand
from distill_core.cli.processes import as_rank, check_procs
from distill_core.config.resume_command import resume_command
from distill_core.distributed.launch import (
    EXIT_CODE_FILE,
    check_processes,
    launch,
    launched,
    usable,
)

if TYPE_CHECKING:
    from distill_core.config.run_config import RunConfig
    from distill_core.distributed.ranks import Ranks
    from registry import Plugins

FOLDED = ("snapshots", "procs", "on_divergence", "max_memory")


@click.command("run", cls=FoldedCommand, folded=FOLDED)
@with_settings(again=("backbone",))
@click.option("--out", type=click.Path(path_type=Path), help="Run directory [default: runs/...].")
@with_sources
@click.option("--dry-run", is_flag=True, help="Show configuration, budget and cost, then stop.")
@click.option("--resume", is_flag=True, help="Resume the run in --out.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Delete the earlier run in --out; refused if other files lie there.",
)
@click.option("--procs", type=click.IntRange(min=1), help="Processes on this machine [default: 1].")
@click.option(
    "--on-divergence",
    type=click.Choice(["stop", "halve-lr"]),
    help="When numbers are not finite: stop, or go back and halve the learning rates.",
)
@click.option("--yes", is_flag=True, help="Start even if it takes more than an hour on a CPU.")
@click.option("--max-memory", help="Memory that a process may use on its device, such as 4GiB.")
@click.pass_obj
def command(display: Display, /, *, procs: int | None, **given: Any) -> int:
    """Distill a dataset: any representation, labeler, orderer and algorithm.

    The result is a run directory with the distilled tensors, a picture, metrics, and the
    accuracy of fresh networks next to that of random real images of the same budget.
    """
    if launched(os.environ):
        from distill_core.distributed.group import join

        ranks = join(os.environ)
        return as_rank(ranks, lambda: _as_rank(ranks, display, procs, **given), display)
    plan = _plan(procs=procs, **given)
    wanted = procs or usable(plan.config.procs, plan.config.device)
    if wanted > 1:
        check_processes(wanted, plan.config.device)
    if given["dry_run"]:
        return plan.preview(wanted)
    if wanted > 1:
        if procs is None:  # a preset or a file decided
            click.echo(
                f"procs    {wanted} processes share each outer step, as run.procs says; --procs 1 "
                "makes the run with one"
            )
        patience = 60 * plan.config.rank_timeout_minutes
        return launch(display.arguments, wanted, run_dir=plan.run_dir, patience=patience)
    return _run(plan, display.arguments, **given)


def _as_rank(ranks: Ranks, display: Display, procs: int | None, **given: Any) -> int:
    """Run as one rank."""
    check_procs(procs)
    plan = _same_plan(_plan(procs=procs, **given) if ranks.is_main else None, ranks)
    if given["dry_run"]:
        return plan.preview(ranks.size) if ranks.is_main else 0
    return _run(plan, display.arguments, ranks, **given)


def _run(plan: _Plan, arguments: tuple[str, ...], ranks: Ranks | None = None, **given: Any) -> int:
    """Distill, in this process or together with others."""
    main = ranks is None or ranks.is_main

    from distill_core.commands import run as run_command
    from distill_core.commands.forecast import HOUR
    from distill_core.distributed.ranks import SINGLE_PROCESS
    from distill_core.run.checkpoint import has_checkpoint
    from distill_core.run.directory import is_of

    # What this command asked for may not be in the run's file yet: `--steps`, `-o`.
    again = shlex.join(["distill", *arguments])
    going_on = again if given["resume"] else resume_command(plan.run_dir)
    try:
        run_command.run(
            plan.config,
            plan.plugins,
            plan.run_dir,
            resume=given["resume"],
            overwrite=given["overwrite"],
            ranks=ranks or SINGLE_PROCESS,
            command=("distill", *arguments),
            longest=None if given["yes"] or given["resume"] or _of_a_cluster(ranks) else HOUR,
        )
    except run_command.Interrupted:
        if main:
            click.echo(f"Interrupted; the state is saved. To resume:\n  {going_on}", err=True)
        return INTERRUPTED
    except KeyboardInterrupt:
        if not main:
            raise
        where = (
            "To go on from the last checkpoint"
            if has_checkpoint(plan.run_dir)
            else "To begin again"
        )
        known = given["resume"] or is_of(plan.run_dir, plan.config)  # --overwrite deletes late
        click.echo(f"Interrupted. {where}:\n  {going_on}" if known else "Interrupted.", err=True)
        return INTERRUPTED
    return 0


def _of_a_cluster(ranks: Ranks | None) -> bool:
    """Whether another launcher than `--procs` started this: whoever made a job knows its time."""
    return ranks is not None and EXIT_CODE_FILE not in os.environ


def _same_plan(plan: _Plan | None, ranks: Ranks) -> _Plan:
    """Send rank 0's settings to the other ranks, since the files may be on its machine only."""
    from distill_core.config.discovery import discover
    from distill_core.config.run_config import resolve

    told = ranks.broadcast(
        plan and {"config": plan.config.model_dump(mode="json"), "run_dir": str(plan.run_dir)}
    )
    if plan is not None:
        return plan
    plugins = discover()
    return _Plan(resolve(told["config"], plugins), plugins, Path(told["run_dir"]))


@dataclass(frozen=True)
class _Plan:
    """What the command line asks for, checked as far as possible without loading data."""

    config: RunConfig
    plugins: Plugins
    run_dir: Path

    def preview(self, processes: int) -> int:
        from distill_core.commands.preview import preview

        preview(self.config, self.plugins, processes)
        return 0


def _plan(
    *,
    out: Path | None,
    config: Path | None,
    preset: str | None,
    overrides: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    max_memory: str | None,
    yes: bool,
    dry_run: bool,
    **flags: Any,
) -> _Plan:
    from distill_core.config.discovery import discover
    from distill_core.config.effects import check_effects, given_by_user
    from distill_core.config.named_models import unjudged
    from distill_core.config.run_config import resolve
    from distill_core.config.settings import merge
    from distill_core.run.directory import check_new, default_directory, settings_of
    from registry import OptionError

    del yes, dry_run  # they matter when the run is about to begin
    plugins = discover()
    engine = None if max_memory is None else {"max_memory": max_memory}
    stronger = own_settings({**flags, "engine": engine}, overrides)
    if resume and (config or preset or overwrite or out is None):
        raise OptionError(
            "--resume reads its configuration from the run directory.",
            expected="--resume --out DIR, and no --config, --preset or --overwrite.",
            next="add --out DIR." if out is None else "leave these out.",
        )
    weaker = settings_of(out) if resume and out else base_settings(config, preset, plugins)
    with packages_of(out) if resume and out else nullcontext():
        resolved = resolve(merge(weaker, stronger), plugins)
    check_effects(resolved, *given_by_user(weaker, stronger, preset=preset))
    if left_out := unjudged(weaker, stronger):
        click.echo(
            "networks the command line replaces evaluate.backbones of the file or preset: without "
            f"{', '.join(left_out)}"
        )
    run_dir = out or default_directory(resolved)
    if not resume:
        check_new(run_dir, overwrite=overwrite)
    return _Plan(resolved, plugins, run_dir)
