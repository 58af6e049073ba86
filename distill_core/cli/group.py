"""A click group that imports a command when it is invoked, and never for `--help`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from distill_core.cli.errors import Display, run_safely
from distill_core.system.screen import screen
from registry import UnknownNameError


def _show_traceback(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value and isinstance(context.obj, Display):
        context.obj.traceback = True


TRACEBACK = click.Option(
    ["--traceback"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_traceback,
    help="Show the whole traceback of an error.",
)


class LazyGroup(click.Group):
    """Commands by name, each the attribute `command` of a module of the same name (`-` is `_`).

    Args:
        table: for each command its line in `--help`, in the order of display.
        package: the package of the modules.
    """

    def __init__(self, *args: Any, table: Mapping[str, str], package: str, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **kwargs)
        self.table = table
        self.package = package
        self.params.append(TRACEBACK)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        del ctx
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; every command also takes `--traceback`."""
        del ctx
        if cmd_name not in self.table:
            return None
        module = importlib.import_module(f"{self.package}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        if TRACEBACK not in command.params:
            command.params.append(TRACEBACK)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command section of `--help` from the table alone."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; refuse an unknown one with the nearest name.

        Raises:
            UnknownNameError: there is no such command.
        """
        if args[0] not in self.table:
            raise UnknownNameError(
                "command",
                args[0],
                known=self.table,
                next="`distill --help` says what each of them does.",
            )
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        """Run the command line and leave the process with its exit code."""
        display = Display(arguments=tuple(sys.argv[1:] if args is None else args))
        call = super().main
        settings = {**extra, "standalone_mode": False, "obj": display}
        with screen(records="--json" in display.arguments) as shown:

            def whole() -> object:
                result = call(args=args, prog_name=prog_name or "distill", **settings)
                if not result:
                    shown.check()
                return result

            code = run_safely(whole, display)
        sys.exit(code)
