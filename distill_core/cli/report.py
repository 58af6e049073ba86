"""`distill report`: a page about one run, or one that compares several."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from distill_core.system.waiting import told_if_slow


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="HTML file [default: see above].")
@click.option("--animate", is_flag=True, help="Also make RUN/poster.gif of each run's snapshots.")
def command(*, runs: tuple[Path, ...], out: Path | None, animate: bool) -> None:
    """Write one self-contained HTML file about a run, or a comparison of several.

    The page of one run is RUN/report.html, that of several report.html in this folder.
    """
    from distill_core.artefact.contents import REPORT
    from distill_core.config.discovery import collect_presets, discover
    from distill_core.report.compare import not_alike, read_runs

    records, failures = read_runs(runs)
    if animate:
        from distill_core.report.timelapse import animate as make
        from registry import InputError

        for record in records:
            try:
                click.echo(make(record.path))
            except InputError as error:
                if len(records) == 1:
                    raise
                click.echo(f"no time-lapse: {error.what}", err=True)
    target = out or (records[0].path / REPORT if len(runs) == 1 else Path(REPORT))
    with told_if_slow(partial(click.echo, err=True), f"report   writes {target}"):
        from distill_core.report.page import write_report

        write_report(records, collect_presets(discover()), target)
    click.echo(target)
    for line in not_alike(records):
        click.echo(line, err=True)
    for line in failures:
        click.echo(f"left out: {line}", err=True)
