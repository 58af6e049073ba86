"""`distill show`: one component, and everything that can be set on it."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from distill_core.cli.folded import folded_line
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
from distill_core.config.discovery import collect_presets, discover
from distill_core.hookspecs import KINDS
from registry import Kind, OptionError, UnknownNameError
from registry.docstrings import source_of

if TYPE_CHECKING:
    from registry.options import Options

WIDTH, INDENT = 100, "    "  # of lines for a pipe or a file


@click.command()
@click.argument("kind", type=KindName())
@click.argument("name", type=ComponentName(), required=False)
@click.option("--all", "whole", is_flag=True, help="Also options that are rarely needed.")
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
    found = find_kind(kind) if name else _kind_or_place(kind)
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


def _kind_or_place(text: str) -> Kind:
    """Return the kind; if it is a component or a preset instead, say how to show that.

    Raises:
        UnknownNameError: there is no such kind.
    """
    from distill_core.config.settings import settings_models

    try:
        return find_kind(text)
    except UnknownNameError as error:
        plugins = discover()
        places = [kind.option for kind in KINDS if text in plugins[kind.name]]
        places += ["preset"] if text in collect_presets(plugins) else []
        ways = " or ".join(f"`distill show {place} {text}`" for place in places)
        raise UnknownNameError(
            error.kind,
            text,
            known={*error.known, *settings_models(), "preset", "plugin"},
            next=f"{ways}." if places else error.next,
        ) from None


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
        click.echo(folded_line(f"distill show {what} --all", len(hidden)))


def _print_table(options: Sequence[Row]) -> None:
    click.echo("")
    if sys.stdout.isatty():
        headers, cells = stacked(options)
        print_table(headers, cells, title="Options")
        return
    for row in options:
        click.echo("\n".join(paragraph(row)))


def paragraph(row: Row) -> list[str]:
    """Return an option as lines for a pipe or a file: its name first, no line long.

    >>> row = ("algo.window", "int or none", "none", ">= 1", "steps", "many", "PoDD, 5.1")
    >>> paragraph(row)
    ['algo.window  int or none, default: none, >= 1, unit: steps', '    many. Source: PoDD, 5.1']
    """
    name, *_, text, source = row
    meaning = ". ".join(filter(None, [text, source and f"Source: {source}"]))
    values = f"{name}  {', '.join(_value(row))}"
    return _broken(values, "") + (_broken(meaning, INDENT) if meaning else [])


def _broken(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _value(row: Row) -> list[str]:
    """Return what an option can be: its type, its default, its bounds and its unit."""
    _, what, default, bounds, unit, *_ = row
    filling = default if default == "required" else f"default: {default}"
    # Spaces, so that a long list of choices breaks between them.
    return [*filter(None, [what.replace("|", " | "), filling, bounds, unit and f"unit: {unit}"])]


def stacked(options: Sequence[Row]) -> tuple[Row, list[Row]]:
    """Return headers and rows for a terminal: few columns, so that each is wide enough to read."""
    cells: list[Row] = []
    for row in options:
        name, *_, text, source = row
        meaning = filter(None, [text, source and f"Source: {source}"])
        cells.append((name, "\n".join(_value(row)), "\n".join(meaning)))
    return ("option", "value", "description"), cells
