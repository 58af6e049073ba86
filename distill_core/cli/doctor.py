"""`distill doctor`: what this machine has, what is missing, and how to fix it."""

from __future__ import annotations

from dataclasses import asdict

import click

from distill_core.cli.errors import FAULT
from distill_core.cli.tables import print_json, print_table

HEADERS = ("what", "state", "found", "next")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of findings.")
def command(as_json: bool) -> int:
    """Check this machine: versions, devices, caches, speed. Needs no network.

    "warn": it could be faster; "broken": no run works without it. The exit code is 1 if something
    is broken.
    """
    from distill_core.commands.doctor import examine

    findings = list(examine())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(
            HEADERS, [(f.what, f.state, f.found, f.next) for f in findings], title="This machine"
        )
    return FAULT if any(finding.state == "broken" for finding in findings) else 0
