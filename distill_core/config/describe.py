"""Options in words: one row of text for each, from its model, for `distill show` and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distill_core.hookspecs import BY_OPTION

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


def settings_rows(name: str, model: type[Options]) -> list[Row]:
    """Return `rows` for settings of the core; without the choice of components and sections, which
    `distill list` and other settings show."""
    from distill_core.config.sections import SECTIONS  # pydantic, which `show --help` does without

    elsewhere = {f"run.{each}" for each in ("options", *SECTIONS, *BY_OPTION)}
    return [row for row in rows(model, name) if row[0] not in elsewhere]


def machine_options() -> set[str]:
    """Return the settings of a run that say where and how fast it is computed."""
    from distill_core.config.settings import MACHINE

    return {f"run.{name}" for name in MACHINE}


def advanced_options(model: type[Options], prefix: str) -> set[str]:
    """Return the options that are rarely needed: those that `about(..., advanced="yes")` marks."""
    from registry.options import marked

    return {f"{prefix}.{name}" for name in marked(model, "advanced")}


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
        default = "required" if name in required else as_typed(defaults.get(name))
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


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Name a JSON schema in words: `int`, `a|b`, `list of float`, `ROWSxCOLS`."""
    if "$ref" in field:
        return _type(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if members := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(member, definitions) for member in members))
    if choices := field.get("enum") or ([field["const"]] if "const" in field else []):
        return "|".join(as_typed(choice) for choice in choices)
    if members := field.get("prefixItems"):
        return f"[{', '.join(_type(member, definitions) for member in members)}]"
    kind = field.get("type", "any")
    if kind == "array" and field.get("items"):
        return f"list of {_type(field['items'], definitions)}"
    return str(field.get("format") or _NAMES.get(kind, kind))


def _bounds(field: Mapping[str, Any]) -> list[str]:
    if "prefixItems" in field:
        return []
    own = [text.format(as_typed(field[key])) for key, text in _BOUNDS.items() if key in field]
    members = [bound for member in field.get("anyOf", []) for bound in _bounds(member)]
    return list(dict.fromkeys([*own, *members]))


def as_typed(value: Any) -> str:
    """Return a value of JSON as users type it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(as_typed(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
