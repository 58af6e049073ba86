"""`distill compare`: runs side by side in one table."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from distill_core.cli.tables import print_json, print_table


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--sort", metavar="COLUMN", help="Column to sort by, such as distilled or ipc.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; accuracies from 0 to 1.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown on a terminal, too.")
def command(*, runs: tuple[Path, ...], sort: str | None, as_json: bool, as_markdown: bool) -> None:
    """Show the runs in RUNS in one table: budget, cost and accuracy.

    Accuracies are mean and sample deviation in percent, of the newest evaluation with the run's own
    kind of network (by the run, or by a later `distill evaluate`). "Reported" is what a paper says
    of the same combination, dataset and budget, in its own setting. Runs that cannot be read, and
    runs whose images are not the same, are listed on stderr.
    """
    from distill_core.config.discovery import collect_presets, discover
    from distill_core.report import compare as comparison

    records, failures = comparison.read_runs(runs)
    rows = comparison.compare(records, collect_presets(discover()), sort=sort)
    if as_json:
        print_json([comparison.as_json(row) for row in rows])
    elif as_markdown or not sys.stdout.isatty():
        click.echo(comparison.markdown(rows))
    else:
        print_table(*comparison.filled(rows), title="Runs")
    for line in comparison.not_alike(records):
        click.echo(line, err=True)
    for line in failures:
        click.echo(f"left out: {line}", err=True)
