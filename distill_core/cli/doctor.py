"""`distill doctor`: what this machine has, what is missing, and how to fix it."""

from __future__ import annotations

from dataclasses import asdict

import click

from distill_core.cli.errors import FAULT
from distill_core.cli.tables import print_json, print_table

HEADERS = ("what", "state", "found", "next")


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

    findings = list(examine())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(
            HEADERS, [(f.what, f.state, f.found, f.next) for f in findings], title="This machine"
        )
    return FAULT if any(finding.state == "broken" for finding in findings) else 0
