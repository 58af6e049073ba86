"""`distill presets`: whole configurations by name, with the figures that papers report."""

from __future__ import annotations

import click

from distill_core.cli.names import PresetName
from distill_core.cli.others import show_preset
from distill_core.cli.tables import print_listing
from distill_core.config.discovery import collect_presets, discover
from distill_core.hookspecs import Preset
from registry import Catalogue

HEADERS = ("preset", "plugin", "summary", "reported")


@click.command()
@click.argument("name", required=False, type=PresetName())
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of records, or NAME's.")
def command(name: str | None, as_json: bool) -> None:
    """Show the configurations for `distill run --preset`, or everything about NAME."""
    found = collect_presets(discover())
    if name is None:
        print_listing(HEADERS, rows(found), title="Presets", as_json=as_json)
    else:
        show_preset(found[name], as_json=as_json)
    for failure in found.failures:
        click.echo(
            f"The presets of {failure.provider} are missing; `distill plugins` says why.", err=True
        )


def rows(found: Catalogue[Preset]) -> list[tuple[str, ...]]:
    """Return one row of `HEADERS` for each preset, by name."""
    return [
        (name, found.entry(name).provider.entry_point, found[name].summary, found[name].reported)
        for name in found.names()
    ]
