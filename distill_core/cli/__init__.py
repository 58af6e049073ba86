"""The command line. Commands are imported when they are used, so `--help` costs nothing.

The modules of this package are named after the commands; importing `list` binds that name here,
so nothing in this file may use the built-in of that name.

May import: every room except `builtin` and `plugin`.
"""

from __future__ import annotations

import click

from distill_core import __version__
from distill_core.cli.group import LazyGroup

COMMANDS = {
    "run": "Distill a dataset.",
    "evaluate": "Train fresh networks on a result; mean and deviation.",
    "compare": "Show runs side by side: budget, cost, accuracy.",
    "report": "Write a page about one run or several.",
    "list": "Show what can be chosen: components, presets, plugins, gallery.",
    "show": "Explain one of them, and its options.",
    "plugins": "As `list plugins`, and what is broken and why.",
    "new-plugin": "Write a package with a component of your own.",
    "presets": "As `list presets` and `show preset NAME`.",
    "order": "Show where an orderer puts the classes; nothing is distilled.",
    "experts": "Train the expert trajectories of an algorithm beforehand.",
    "bench": "Show what an outer step of each preset costs on this machine.",
    "export": "Write a result for other tools, as images or tensors.",
    "push": "Upload a result to the Hugging Face Hub.",
    "cite": "Print BibTeX of what a run used: papers, data, distill.",
    "verify": "Check a result against its manifest.",
    "sweep": "Run a grid of options and seeds; resumable.",
    "doctor": "Check this machine: versions, devices, caches, speed.",
    "completion": "Print the script that completes commands in your shell.",
}


@click.group(cls=LazyGroup, table=COMMANDS, package=__name__, invoke_without_command=True)
@click.version_option(__version__, prog_name="distill", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Distill datasets: any representation, labeler, orderer and algorithm in one command.

    Start with `distill list` and `distill presets`.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
