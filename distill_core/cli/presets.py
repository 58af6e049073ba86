"""`distill presets`: whole configurations by name, with the figures that papers report."""

from __future__ import annotations

from dataclasses import asdict

import click

from distill_core.cli.names import PresetName
from distill_core.cli.tables import print_json, print_listing
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
    elif as_json:
        print_json(asdict(found[name]))
    else:
        click.echo(describe(found[name]), nl=False)
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


def describe(preset: Preset) -> str:
    """Return a preset as a configuration file, with what is known about it as comments."""
    import tomli_w

    remarks = [preset.summary, f"reported: {preset.reported}" if preset.reported else ""]
    comments = [f"# {line}" for remark in remarks for line in remark.splitlines()]
    return "\n".join([*comments, "", tomli_w.dumps(dict(preset.config))])
