"""`distill doctor`: what this machine has, what is missing, and how to fix it."""

from __future__ import annotations

from dataclasses import asdict

import click

from distill_core.cli.errors import FAULT
from distill_core.cli.tables import print_json

HEADERS = ("what", "state", "found", "next")
WIDTHS = 14, 6  # of what and state, in characters


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of findings.")
@click.option(
    "--clear-pictures",
    is_flag=True,
    help="Delete the decoded pictures in the cache, and do nothing else.",
)
def command(as_json: bool, clear_pictures: bool) -> int:
    """Check this machine: versions, devices, caches, speed. Needs no network.

    "warn": it could be faster; "broken": no run works without it. The exit code is 1 if something
    is broken.
    """
    if clear_pictures:
        from distill_core.data import picture_space
        from distill_core.system.units import size_text

        freed = picture_space.clear_pictures()
        click.echo(f"{size_text(freed)} of decoded pictures deleted from the cache")
        return 0
    from distill_core.commands.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:  # each line as it comes: compiling kernels, for one, takes a while
            if len(findings) == 1:
                click.echo(_line(HEADERS))
            click.echo(_line((finding.what, finding.state, finding.found, finding.next)))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    return FAULT if any(finding.state == "broken" for finding in findings) else 0


def _line(cells: tuple[str, ...]) -> str:
    """Pad the columns whose widths are known ahead, and join them with tabs, as tables do."""
    what, state, *others = cells
    return "\t".join((what.ljust(WIDTHS[0]), state.ljust(WIDTHS[1]), *others)).rstrip()
