"""`distill new-plugin`: a complete package with one working component to start from."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from distill_core.cli.kinds import find_kind
from distill_core.commands.new_plugin import component_name, new_plugin
from distill_core.config.discovery import discover


@click.command()
@click.argument("name")
@click.option(
    "--kind",
    required=True,
    help="orderer, labeler, representation, algorithm, dataset or backbone.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder in which the package's folder is made [default: this one].",
)
def command(name: str, kind: str, out: Path) -> None:
    """Write an installable package distill-NAME that offers the component NAME.

    It works at once: a small example of its KIND, with a test of the contract.
    """
    found, called = find_kind(kind), component_name(name)
    files = new_plugin(called, found, out, discover())
    for file in files:
        click.echo(file)
    if called != name:
        click.echo(f"The {found.name} is called {called}: names in Python have no hyphens.")
    package = shlex.quote(str(files[0].parent))
    click.echo(
        f"Next: `python -m pip install -e {package}`, then `distill plugins` shows it, and "
        f"`python -m pytest {package}` checks it (`python -m pip install pytest` first)."
    )
