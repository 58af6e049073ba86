"""`distill show`: one component, and everything that can be set on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from distill_core.cli.kinds import find_kind
from distill_core.cli.names import ComponentName, KindName
from distill_core.cli.tables import print_table
from distill_core.config.discovery import discover
from distill_core.hookspecs import KINDS
from registry import OptionError
from registry.docstrings import source_of

if TYPE_CHECKING:
    from registry.options import Options

HEADERS = ("option", "type", "default", "bounds", "unit", "description", "source")
Row = tuple[str, ...]
_NAMES = {
    "integer": "int",
    "number": "float",
    "boolean": "true|false",
    "string": "text",
    "array": "list",
    "object": "table",
    "null": "none",
}
_BOUNDS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "like {}",
}


@click.command()
@click.argument("kind", type=KindName())
@click.argument("name", type=ComponentName(), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a record with all options.")
def command(kind: str, name: str | None, as_json: bool) -> None:
    """Explain the component NAME of a KIND: what it does, and its options.

    The settings that belong to no component are shown by `distill show run`, data, engine and
    evaluate.
    """
    from distill_core.config.settings import settings_models

    if name is None and (model := settings_models().get(kind)):
        _show_settings(kind, model, as_json=as_json)
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
    model = catalogue.attribute(name, entry.item.resolve_options)
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
        click.echo(json.dumps(record, indent=1))
        return
    click.echo(f"{found.name} {name}: {entry.item.summary}")
    click.echo(f"plugin   {entry.provider}, {entry.provider.module}")
    if source:
        click.echo(f"source   {source}")
    if not options:
        click.echo("It has no options.")
        return
    _print_options(options)


def _show_settings(name: str, model: type[Options], *, as_json: bool) -> None:
    options = settings_rows(name, model)
    if as_json:
        listed = [dict(zip(HEADERS, row, strict=True)) for row in options]
        click.echo(json.dumps({"name": name, "options": listed}, indent=1))
        return
    click.echo(f"{name}: settings of {'every run' if name == 'run' else 'the core'}")
    _print_options(options)


def _print_options(options: Sequence[Row]) -> None:
    click.echo("")
    headers, cells = stacked(options) if sys.stdout.isatty() else filled(options)
    print_table(headers, cells, title="Options")
    click.echo(f"Set one with -o {options[0][0]}=VALUE.")


def settings_rows(name: str, model: type[Options]) -> list[Row]:
    """Return `rows` for settings of the core; without the choice of components and sections, which
    `distill list` and other settings show."""
    from distill_core.config.sections import SECTIONS

    elsewhere = {f"run.{each}" for each in ("options", *SECTIONS, *(kind.option for kind in KINDS))}
    return [row for row in rows(model, name) if row[0] not in elsewhere]


def rows(model: type[Options], prefix: str) -> list[Row]:
    """Return one row of `HEADERS` for each option of a model, in its own order.

    Args:
        model: of a component, or of settings of the core.
        prefix: what `-o` has before the option's name.
    """
    schema = model.model_json_schema()
    required = schema.get("required", [])
    defaults = model.model_construct().model_dump(mode="json", warnings=False)
    definitions = schema.get("$defs", {})
    found: list[Row] = []
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required else _value(defaults.get(name))
        found.append(
            (
                f"{prefix}.{name}",
                _type(field, definitions),
                default,
                ", ".join(_bounds(field)),
                field.get("unit", ""),
                field.get("description", ""),
                field.get("source", ""),
            )
        )
    return found


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


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Name a JSON schema in words: `int`, `a|b`, `list of float`, `ROWSxCOLS`."""
    if "$ref" in field:
        return _type(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if members := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(member, definitions) for member in members))
    if choices := field.get("enum") or ([field["const"]] if "const" in field else []):
        return "|".join(_value(choice) for choice in choices)
    if members := field.get("prefixItems"):
        return f"[{', '.join(_type(member, definitions) for member in members)}]"
    kind = field.get("type", "any")
    if kind == "array" and field.get("items"):
        return f"list of {_type(field['items'], definitions)}"
    return str(field.get("format") or _NAMES.get(kind, kind))


def _bounds(field: Mapping[str, Any]) -> list[str]:
    if "prefixItems" in field:
        return []
    own = [text.format(_value(field[key])) for key, text in _BOUNDS.items() if key in field]
    members = [bound for member in field.get("anyOf", []) for bound in _bounds(member)]
    return list(dict.fromkeys([*own, *members]))


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
