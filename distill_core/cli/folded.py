"""A command whose help leaves out flags that are rarely needed, unless `--all` is given, too."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click


class FoldedCommand(click.Command):
    """A command with flags that its help shows only with `--all`; all of them always work.

    Args:
        folded: their parameters, by name.
    """

    def __init__(self, *args: Any, folded: Collection[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.folded = folded
        self.params.append(
            click.Option(
                ["--all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_help_with_all,
                help="Show this with all options.",
            )
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options; those that are folded are counted."""
        if "--all" in getattr(ctx.obj, "arguments", ()):
            super().format_options(ctx, formatter)
            return
        shown = [each for each in self.get_params(ctx) if each.name not in self.folded]
        records = [record for each in shown if (record := each.get_help_record(ctx))]
        with formatter.section("Options"):
            formatter.write_dl(records)
        formatter.write_paragraph()
        formatter.write_text(folded_line(f"{ctx.command_path} --help --all", len(self.folded)))


def folded_line(command: str, count: int) -> str:
    """Say which command shows the options that are left out.

    >>> folded_line("distill run --help --all", 4)
    '`distill run --help --all` also shows 4 options that are rarely needed.'
    """
    options = "option that is" if count == 1 else "options that are"
    return f"`{command}` also shows {count} {options} rarely needed."


def _help_with_all(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value:
        click.echo(context.get_help())
        context.exit()
