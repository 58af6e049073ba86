"""A command whose help leaves out the flags that few will give, unless `--all` is given, too."""

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
        formatter.write_text(
            f"{len(self.folded)} more that few will give: `{ctx.command_path} --help --all`."
        )


def _help_with_all(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value:
        click.echo(context.get_help())
        context.exit()
