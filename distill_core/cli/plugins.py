"""`distill plugins`: what was discovered, what each plugin offers, what is broken and why."""

from __future__ import annotations

import os
import textwrap

import click

from distill_core.cli.errors import Display
from distill_core.cli.tables import print_json, print_table
from distill_core.config.discovery import collect_presets, discover
from distill_core.hookspecs import GROUP, Preset
from registry import Catalogue, Failure, Plugins, Provider

HEADERS = ("plugin", "version", "module", "api", "offers")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: plugins, and failures.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show what was discovered, and what is broken and why."""
    plugins = discover()
    presets = collect_presets(plugins)
    if as_json:
        _print_json(plugins, presets)
        return
    print_table(HEADERS, rows(plugins, presets), title="Plugins")
    variable = f"{GROUP.upper()}_LOAD_PLUGINS"
    if os.environ.get(variable, "").strip():
        click.echo(f"Only those named in {variable}={os.environ[variable]} were loaded.")
    failures = [*plugins.failures, *presets.failures]
    tracebacks = isinstance(context.obj, Display) and context.obj.traceback
    for failure in failures:
        click.echo(report(failure, tracebacks=tracebacks))
    if failures and not tracebacks:
        click.echo("\n`distill plugins --traceback` shows where it happened.")


def _print_json(plugins: Plugins, presets: Catalogue[Preset]) -> None:
    loaded = [dict(zip(HEADERS, row, strict=True)) for row in rows(plugins, presets)]
    failed = [
        {
            "plugin": failure.provider.entry_point,
            "version": f"{failure.provider.distribution} {failure.provider.version}",
            "reason": failure.reason,
            "place": failure.place,
        }
        for failure in [*plugins.failures, *presets.failures]
    ]
    print_json({"plugins": loaded, "failures": failed})


def rows(plugins: Plugins, presets: Catalogue[Preset]) -> list[tuple[str, ...]]:
    """Return one row of `HEADERS` for each plugin that was loaded."""
    return [
        (
            provider.entry_point,
            f"{provider.distribution} {provider.version}",
            provider.module,
            provider.api,
            _offers(plugins, presets, provider),
        )
        for provider in plugins.providers
    ]


def _offers(plugins: Plugins, presets: Catalogue[Preset], provider: Provider) -> str:
    offered = [
        f"{kind}: {', '.join(names)}" for kind, names in plugins.provided_by(provider).items()
    ]
    own_presets = sum(presets.entry(name).provider == provider for name in presets)
    if own_presets:
        offered.append(f"presets: {own_presets}")
    return "; ".join(offered) or "nothing"


def report(failure: Failure, *, tracebacks: bool) -> str:
    """Say what is broken in a plugin, and why."""
    at = f"\nin {failure.place}" if failure.place else ""
    reason = failure.traceback.rstrip() if tracebacks else f"{failure.reason}{at}"
    return f"\n{failure.provider} is broken:\n{textwrap.indent(reason, '  ')}"
