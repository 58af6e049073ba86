"""`distill sweep`: a grid of runs, several seeds, resumable."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill_core.cli.errors import FAULT
from distill_core.cli.tables import print_json, print_table
from distill_core.config.discovery import discover
from distill_core.system.units import shortened

if TYPE_CHECKING:
    from distill_core.commands.sweep import Cell

SHOWN = 3  # names of cells that failed


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: sweeps/FILE].")
@click.option(
    "-o", "overrides", multiple=True, metavar="dataset.FIELD=VALUE", help="Where the data are now."
)
@click.option("--parallel", type=click.IntRange(min=1), help="Cells at a time [default: 1].")
@click.option("--dry-run", is_flag=True, help="Check the grid and show its cells, then stop.")
@click.option("--report", is_flag=True, help="Only show the results so far.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON record for each cell.")
@click.option("--cluster", type=click.Choice(["slurm", "local"]), help="Cells as jobs (submitit).")
@click.option("--partition", help="Slurm's partition.")
@click.option("--time", "minutes", type=click.IntRange(min=1), help="Minutes that a job may take.")
@click.option("--cpus", type=click.IntRange(min=1), help="CPUs of a job.")
@click.option("--gpus", type=click.IntRange(min=1), help="GPUs of a job.")
def command(
    *,
    file: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    parallel: int | None,
    dry_run: bool,
    report: bool,
    as_json: bool,
    cluster: str | None,
    **job: Any,
) -> int:
    """Run the grid in FILE: options, components and seeds.

    The whole grid is checked before anything starts. Cells with results are skipped and interrupted
    ones resume, so the same command finishes a sweep that was stopped. A cell that fails is
    reported, and the others still run.
    """
    from distill_core.commands.sweep import read_sweep
    from distill_core.commands.sweep_cells import INTERRUPTED, log_end, log_path, submit_cells
    from distill_core.commands.sweep_queue import run_cells

    parameters = _parameters(cluster, job)
    target = out or Path("sweeps") / file.stem
    cells = read_sweep(file, target, discover(), overrides)
    if dry_run:
        _print_cells(cells, as_json=as_json)
        return 0
    failed: dict[str, int] = {}
    said: dict[tuple[str, ...], str] = {}  # the end of a log, and the first cell that had it
    left = [] if report else [cell for cell in cells if cell.state() != "done"]

    def ended(cell: Cell, code: int) -> None:
        if code == 0:
            click.echo(f"done {cell.name}", err=True)
        elif code == INTERRUPTED:
            click.echo(f"interrupted {cell.name}", err=True)
        else:
            failed[cell.name] = code
            lines = tuple(line.replace(cell.name, "CELL") for line in log_end(cell, target))
            as_before = said.setdefault(lines, cell.name)
            if as_before != cell.name:
                click.echo(f"failed {cell.name}: as {as_before}", err=True)
                return
            click.echo(f"failed {cell.name}: exit code {code}", err=True)
            for line in log_end(cell, target):
                click.echo(f"  {line}", err=True)
            click.echo(f"  ({log_path(cell, target)})", err=True)

    def waits(cell: Cell, owner: str) -> None:
        click.echo(f"waiting for {cell.name}: it is run by {owner}", err=True)

    click.echo(f"{len(cells)} cells, {len(left)} to do", err=True)
    try:
        if cluster and left:
            submit_cells(
                left,
                target,
                cluster=cluster,
                parallel=parallel,
                parameters=parameters,
                ended=ended,
            )
        else:
            run_cells(left, target, parallel=parallel or 1, ended=ended, waits=waits)
    except KeyboardInterrupt:
        _print_results(cells, failed, target, as_json=as_json)
        again = "Submitted jobs go on" if cluster == "slurm" else "The same command goes on"
        raise KeyboardInterrupt(f"{again}; --report shows what is there.") from None
    _print_results(cells, failed, target, as_json=as_json)
    return FAULT if failed else 0


def _parameters(cluster: str | None, job: dict[str, Any]) -> dict[str, Any]:
    """Return the job's parameters by submitit's names."""
    from registry import OptionError

    names = {
        "partition": "slurm_partition",
        "minutes": "timeout_min",
        "cpus": "cpus_per_task",
        "gpus": "gpus_per_node",
    }
    given = {names[name]: value for name, value in job.items() if value is not None}
    if cluster and "timeout_min" not in given:
        raise OptionError(
            f"--cluster {cluster} has no --time.",
            expected="the minutes that a job may take; it is ended after them.",
            next="add --time 240, or what your longest cell needs.",
        )
    if given and cluster is None:
        raise OptionError(
            "--partition, --time, --cpus and --gpus have no effect without --cluster.",
            expected="them with --cluster only: they are settings of a cluster's jobs.",
            next="add --cluster slurm, or leave them out.",
        )
    return given


def _print_cells(cells: list[Cell], *, as_json: bool) -> None:
    states = [(cell.name, cell.state()) for cell in cells]
    if as_json:
        print_json([{"cell": name, "state": state} for name, state in states])
    else:
        print_table(("cell", "state"), states, title="Cells")


def _print_results(cells: list[Cell], failed: dict[str, int], out: Path, *, as_json: bool) -> None:
    from distill_core.commands.sweep_table import not_alike, records, rows, save

    found = records(cells, failed)
    save(found, out)
    for line in not_alike(cells):
        click.echo(line, err=True)
    if as_json:
        print_json(found)
        return
    headers, body = rows(cells)
    print_table(headers, body, title="Accuracy on the test set, %: mean and deviation over seeds")
    if failed:
        names = shortened([*failed], SHOWN)
        click.echo(f"failed: {names}; the same command tries them again")
    click.echo(f"saved in {out / 'results.csv'} and results.json")
    click.echo(f"for a page: distill report {shlex.quote(str(out / 'runs'))}/*")
