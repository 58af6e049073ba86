"""`distill completion`: the script that completes commands, options and names in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from distill_core.cli.group import LazyGroup

VARIABLE = "_DISTILL_COMPLETE"
HINTS = {
    "bash": 'add to ~/.bashrc: eval "$(distill completion bash)"',
    "zsh": 'add to ~/.zshrc: eval "$(distill completion zsh)"',
    "fish": "distill completion fish > ~/.config/fish/completions/distill.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(HINTS)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in SHELL; a note says where it goes."""
    group = context.find_root().command
    assert isinstance(group, LazyGroup)
    completion = get_completion_class(shell)
    assert completion is not None
    # Not `source()`: for bash it starts a bash to learn its version, and prints a warning.
    made = completion(group, {}, "distill", VARIABLE)
    script = made.source_template % made.source_vars()
    # No space after what wants more: `algo.`, `algo.window=`.
    adds = "COMPREPLY+=($value)\n"
    script = script.replace(
        adds, f"{adds}            [[ $value == *[.=] ]] && compopt -o nospace\n"
    )
    click.echo(script)
    click.echo(f"To install, {HINTS[shell]}", err=True)
