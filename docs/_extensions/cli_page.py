"""The command-line reference, from the click program."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click


def commands(
    group: click.Group, context: click.Context
) -> Iterator[tuple[click.Context, click.Command]]:
    """Yield every command of a program with a context that knows its full name."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name)
        yield inner, command
        if isinstance(command, click.Group):
            yield from commands(command, inner)


def cli_page(program: click.Group) -> str:
    """Write the page of all commands: usage, text, arguments and options."""
    # Click keeps the first help option that it makes, so this context is as those of real calls.
    root = click.Context(program, info_name="distill", **program.context_settings)
    parts = [
        "# Command line\n",
        f"{inspect.cleandoc(program.help or '')}\n",
        "Written from the program itself; `distill COMMAND --help` says the same.\n",
        *(_options(program, root)),
    ]
    for context, command in commands(program, root):
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        parts += [
            f"## {context.command_path}\n",
            f"```text\n{usage}\n```\n",
            f"{inspect.cleandoc(command.help or '')}\n",
            *_options(command, context),
        ]
    return "\n".join(parts)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"```{{program}} {context.command_path}\n```\n"
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option):
            record = parameter.get_help_record(context)
            if record is None:
                continue
            names, text = record
            yield f"````{{option}} {names}\n{text or 'No description.'}\n````\n"
