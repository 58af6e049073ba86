"""`distill show`: one component, and everything that can be set on it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from distill_core.cli.kinds import find_kind
from distill_core.cli.names import ComponentName, KindName
from distill_core.cli.others import OTHERS, show_other
from distill_core.cli.tables import print_json, print_table
from distill_core.config.describe import (
    HEADERS,
    Row,
    advanced_options,
    machine_options,
    rows,
    settings_rows,
)
from distill_core.config.discovery import discover
from registry import OptionError
from registry.docstrings import source_of

if TYPE_CHECKING:
    from registry.options import Options


@click.command()
@click.argument("kind", type=KindName())
@click.argument("name", type=ComponentName(), required=False)
@click.option("--all", "whole", is_flag=True, help="Also options that few will set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a record with all options.")
def command(kind: str, name: str | None, whole: bool, as_json: bool) -> None:
    """Explain the component NAME of a KIND: what it does, and its options.

    The settings that belong to no component are shown by `distill show run`, data, engine and
    evaluate; presets and plugins by `distill show preset NAME` and `distill show plugin NAME`.
    """
    from distill_core.config.settings import settings_models

    word = kind.strip().lower()
    if word in OTHERS:
        show_other(word, name, as_json=as_json)
        return
    if name is None and (model := settings_models().get(kind)):
        _show_settings(kind, model, whole=whole, as_json=as_json)
        return
    found = find_kind(kind)
    if name is None:
        raise OptionError(
            f"nothing says which {found.name} to show.",
            expected=f"`distill show {kind} NAME`.",
            next=f"`distill list {kind}` has the names.",
        )
    catalogue = discover()[found.name]
    entry = catalogue.entry(name)
    model = catalogue.options(name)
    options = rows(model, found.option)
    source = source_of(entry.item)
    if as_json:
        record = {
            "kind": found.name,
            "name": name,
            "summary": entry.item.summary,
            "provider": asdict(entry.provider),
            "source": source,
            "options": [dict(zip(HEADERS, row, strict=True)) for row in options],
        }
        print_json(record)
        return
    click.echo(f"{found.name} {name}: {entry.item.summary}")
    click.echo(f"plugin   {entry.provider}, {entry.provider.module}")
    if source:
        click.echo(f"source   {source}")
    if not options:
        click.echo("It has no options.")
        return
    hidden = set() if whole else advanced_options(model, found.option)
    _print_options(options, hidden, f"{kind} {name}")


def _show_settings(name: str, model: type[Options], *, whole: bool, as_json: bool) -> None:
    options = settings_rows(name, model)
    if as_json:
        listed = [dict(zip(HEADERS, row, strict=True)) for row in options]
        print_json({"name": name, "options": listed})
        return
    click.echo(f"{name}: settings of {'every run' if name == 'run' else 'the core'}")
    machine = machine_options()
    hidden = set() if whole else advanced_options(model, name)
    _print_options([row for row in options if row[0] not in machine], hidden, name)
    if of_machine := [row for row in options if row[0] in machine]:
        click.echo("\nThis machine: where and how fast a run is computed")
        _print_table(of_machine)


def _print_options(options: Sequence[Row], hidden: Collection[str], what: str) -> None:
    """Print the options that are not hidden, how one is set, and how many there are besides."""
    _print_table([row for row in options if row[0] not in hidden] or options)
    click.echo(f"Set one with -o {options[0][0]}=VALUE.")
    if hidden and len(hidden) < len(options):
        click.echo(f"{len(hidden)} more that few will set: `distill show {what} --all`.")


def _print_table(options: Sequence[Row]) -> None:
    click.echo("")
    headers, cells = stacked(options) if sys.stdout.isatty() else filled(options)
    print_table(headers, cells, title="Options")


def filled(options: Sequence[Row]) -> tuple[Row, list[Row]]:
    """Return headers and rows without the columns that have nothing in any row."""
    columns = [column for column in zip(HEADERS, *options, strict=True) if any(column[1:])]
    headers, *cells = zip(*columns, strict=True)
    return headers, cells


def stacked(options: Sequence[Row]) -> tuple[Row, list[Row]]:
    """Return headers and rows for a terminal: few columns, so that each is wide enough to read."""
    cells = []
    for name, what, default, bounds, unit, text, source in options:
        filling = default if default == "required" else f"default: {default}"
        # Spaces, so that a long list of choices breaks between them.
        value = [what.replace("|", " | "), filling, bounds, unit and f"unit: {unit}"]
        meaning = [text, source and f"Source: {source}"]
        cells.append((name, *("\n".join(filter(None, lines)) for lines in (value, meaning))))
    return ("option", "value", "description"), cells
